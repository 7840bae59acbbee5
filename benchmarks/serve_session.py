"""The trees as every rival runs them: ONNX Runtime with one thread, as ours does. Knows nothing of servers."""

from typing import Any

import onnxruntime

__all__ = ["session"]


def session(path: str) -> Any:
    """Return the model with one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
