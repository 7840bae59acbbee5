"""The serving tools beside ours: where each is installed, what it is asked and how its answer is read.

A tool is a program of its own, `serve_NAME.py PORT MODEL.onnx`. Knows nothing of what a request costs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from raymlops.values import Float32

__all__ = ["OIP", "PEERS", "Peer", "Wire"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """What goes over the wire, JSON both ways; ``write`` takes a matrix, ``read`` gives the first probability."""

    name: str
    path: str
    write: Callable[[Float32], object]
    read: Callable[[Any], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A tool; ``pins`` is the file of its environment."""

    pins: str
    wire: Wire


def _tensor(x: Float32) -> object:
    return {"inputs": [{"name": "x", "shape": [*x.shape], "datatype": "FP32", "data": x.ravel().tolist()}]}


OIP = Wire(
    name="oip", path="/v2/models/bench/infer", write=_tensor, read=lambda answer: answer["outputs"][0]["data"][0]
)
_BENTOML = Wire(
    name="bentoml", path="/predict", write=lambda x: {"x": x.tolist()}, read=lambda answer: answer[0]
)  # fmt: skip
_LITSERVE = Wire(
    name="litserve", path="/predict", write=lambda x: {"input": x[0].tolist()}, read=lambda answer: answer["output"]
)
_MLFLOW = Wire(
    name="mlflow", path="/invocations", write=lambda x: {"inputs": x.tolist()},
    read=lambda answer: answer["predictions"]["y"][0],
)  # fmt: skip

PEERS = {
    "mlserver": Peer(pins="rivals-mlserver.txt", wire=OIP),
    "bentoml": Peer(pins="rivals-serve.txt", wire=_BENTOML),
    "litserve": Peer(pins="rivals-serve.txt", wire=_LITSERVE),
    "mlflow": Peer(pins="rivals-serve.txt", wire=_MLFLOW),
}
