"""The part `int8` of the serving benchmark: networks of ONNX Runtime in int8 beside float32, in process, one thread."""

from pathlib import Path

import numpy as np
from line import Line
from networks import network, rows

from raymlops.engine.engines.onnxruntime import Onnxruntime
from raymlops.optimize import asking, latencies

__all__ = ["lines"]

_ROWS = 256
_NETWORKS = {"28-256-256-1": (28, (256, 256), 1.8), "1024-1024-1024-1024-1": (1024, (1024, 1024, 1024), 3.5)}


def lines(folder: Path, *, quick: bool) -> list[Line]:
    """Return a line a network, with the largest difference of an answer (a probability) from float32's."""
    made = []
    for name, (features, hidden, bar) in _NETWORKS.items():
        version, x = network(folder / f"network-{name}", features, hidden), rows(features)
        predict = {}
        for precision, engine in (("int8", Onnxruntime(precision="int8")), ("float32", Onnxruntime())):
            artefact = version / precision
            artefact.mkdir()
            engine.compile(version, artefact, sample=x[:1024])
            predict[precision] = engine.load(version, artefact, threads=1).predict
        error = float(np.abs(predict["int8"](x) - predict["float32"](x)).max())
        calls = {one: asking(call, x, rows=_ROWS) for one, call in predict.items()}
        taken = latencies(calls, seconds=0.5 if quick else 4.0)
        mine, theirs = (float(np.median(taken[one])) * 1e3 for one in ("int8", "float32"))
        what = f"network {name} in int8, {_ROWS} rows, answers off by {error:.2g} at most; rival: float32"
        made.append(Line(what=what, unit="ms", ours=mine, rival=theirs, ratio=theirs / mine, bar=bar))
    return made
