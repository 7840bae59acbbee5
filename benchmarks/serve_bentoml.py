"""BentoML beside ours: a service with one worker. `python benchmarks/serve_bentoml.py PORT MODEL.onnx`.

Its access log, metrics and traces are off, and its method is a coroutine, which spares a thread a request.
"""

import os
import sys
from pathlib import Path
from typing import Annotated

import bentoml  # type: ignore[import-not-found]
import numpy as np
from bentoml.validators import DType, Shape  # type: ignore[import-not-found]
from serve_session import session

Rows = Annotated[np.ndarray, DType("float32"), Shape((-1, 28))]


@bentoml.service(
    workers=1, logging={"access": {"enabled": False}}, metrics={"enabled": False}, tracing={"sample_rate": 0.0}
)
class Trees:
    """The model behind one method."""

    def __init__(self) -> None:
        self.session = session(os.environ["BENCH_MODEL"])

    @bentoml.api  # type: ignore[untyped-decorator]
    async def predict(self, x: Rows) -> np.ndarray:
        """Answer rows."""
        return self.session.run(["y"], {"x": x})[0]  # type: ignore[no-any-return]


if __name__ == "__main__":
    home = Path("bentoml").absolute()
    os.environ |= {"BENCH_MODEL": sys.argv[2], "BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(home)}
    words = ["-m", "bentoml", "serve", "serve_bentoml:Trees", "--host", "127.0.0.1", "--port", sys.argv[1]]
    os.execv(sys.executable, [sys.executable, *words, "--working-dir", str(Path(__file__).parent)])
