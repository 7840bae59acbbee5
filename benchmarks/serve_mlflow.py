"""`mlflow models serve` beside ours: the graph as its ONNX flavour, one worker. `… serve_mlflow.py PORT MODEL.onnx`."""

import os
import sys
from pathlib import Path

import mlflow.onnx
import numpy as np
import onnx
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

if __name__ == "__main__":
    schema = Schema([TensorSpec(np.dtype(np.float32), (-1, 28))])
    mlflow.onnx.save_model(
        onnx.load(sys.argv[2]), "model", signature=ModelSignature(inputs=schema),
        onnx_execution_providers=["CPUExecutionProvider"],
        onnx_session_options={"intra_op_num_threads": 1, "inter_op_num_threads": 1},
    )  # fmt: skip
    # It asks a shell for uvicorn, which by default writes a line a request.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    os.environ |= {"PATH": path, "UVICORN_ACCESS_LOG": "false"}
    words = ["-m", "mlflow", "models", "serve", "--model-uri", "model", "--env-manager", "local", "--workers", "1"]
    os.execv(sys.executable, [sys.executable, *words, "--host", "127.0.0.1", "--port", sys.argv[1]])
