"""LitServe beside ours: one worker behind its fast queue. `python benchmarks/serve_litserve.py PORT MODEL.onnx`."""

import sys
from typing import Any

import litserve  # type: ignore[import-not-found]
import numpy as np
from serve_session import session


class Trees(litserve.LitAPI):  # type: ignore[misc]
    """The model behind LitServe's four steps; each request is a row."""

    def __init__(self, model: str) -> None:
        super().__init__()
        self.model = model

    def setup(self, device: str) -> None:
        """Open the model, in the worker."""
        self.session = session(self.model)

    def decode_request(self, request: dict[str, list[float]]) -> Any:
        """Return the row."""
        return np.array(request["input"], dtype=np.float32).reshape(1, -1)

    def predict(self, x: Any) -> Any:
        """Return its probability."""
        return self.session.run(["y"], {"x": x})[0]

    def encode_response(self, output: Any) -> dict[str, float]:
        """Return what becomes JSON."""
        return {"output": output.item()}


if __name__ == "__main__":
    server = litserve.LitServer(Trees(sys.argv[2]), accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), num_api_servers=1, log_level="error", access_log=False,
               generate_client_file=False)  # fmt: skip
