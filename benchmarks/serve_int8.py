"""How much sooner int8 answers than float32 in ONNX Runtime: networks, one thread, 256 rows, in process.

    python benchmarks/serve_int8.py [--quick] [--json]

`ours` is int8, the rival float32. The line says by how much their answers, probabilities, differ at most.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from line import Line, arguments, print_lines
from networks import NETWORKS, matrix, network

from raymlops.engine.engines.onnxruntime import Onnxruntime
from raymlops.optimize import asking, latencies

__all__ = ["lines"]

ROWS = 256
BARS = {"network 28-256-256-1": 1.8, "network 1024x4": 3.5}
ENGINES = {"float32": Onnxruntime(), "int8": Onnxruntime(precision="int8")}


def main() -> int:
    """Print a line a network; return 1 when one misses its bar."""
    given = arguments(__doc__, quick="a quarter of the calls")
    return print_lines(lines(quick=given.quick), as_json=given.json)


def lines(*, quick: bool) -> list[Line]:
    """Return the medians of single calls, milliseconds."""
    with TemporaryDirectory(prefix="rmb-") as folder:
        return [_line(Path(folder) / name.replace(" ", "-"), name, quick=quick) for name in NETWORKS]


def _line(folder: Path, name: str, *, quick: bool) -> Line:
    features, hidden = NETWORKS[name]
    version, x, predict = network(folder, features, hidden), matrix(features), {}
    for precision, engine in ENGINES.items():
        artefact = version / precision
        artefact.mkdir()
        engine.compile(version, artefact, sample=x[:1024])
        predict[precision] = engine.load(version, artefact, threads=1).predict
    apart = np.abs(np.asarray(predict["int8"](x)) - np.asarray(predict["float32"](x))).max()
    asked = {precision: asking(call, x, rows=ROWS) for precision, call in predict.items()}
    timed = latencies(asked, seconds=0.5 if quick else 2.0)
    ms = {precision: float(np.median(seconds)) * 1e3 for precision, seconds in timed.items()}
    what = f"{name}, {ROWS} rows, one thread, int8 (answers differ by at most {apart:.1g}); rival: float32"
    return Line(what=what, unit="ms", ours=ms["int8"], rival=ms["float32"], ratio=ms["float32"] / ms["int8"],
                bar=BARS[name])  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
