"""What each engine takes on a GPU, beside bare torch. Run: python benchmarks/gpu.py [--quick] [--json].

Networks 28-256-256-1 and 1024-1024-1024-1024-1, and 100 trees of depth 6 over 28 features, asked for 1, 32, 256 and
4,096 rows. Rows come from this machine's memory and answers go back there, in every number. The rivals of a network are
torch eager and torch with a CUDA graph, on the same GPU; that of trees is XGBoost on the CPU, one thread. Nothing has a
bar yet. An engine that refuses is a line with its reason. Without a CUDA device the script says so and ends with 3.
"""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from line import Line, arguments, print_lines
from networks import NETWORKS, describe, matrix, network

from raymlops.engine import cuda
from raymlops.engine.captured import captured
from raymlops.engine.engines.native import Native
from raymlops.engine.engines.pytorch import Pytorch
from raymlops.engine.engines.tensorrt import Tensorrt
from raymlops.engine.engines.xgboost import Xgboost
from raymlops.engine.formats.pytorch import read_module
from raymlops.errors import EngineError, RaymlopsError
from raymlops.optimize import asking, latencies
from raymlops.protocols import Engine
from raymlops.values import Float32

BATCHES = (1, 32, 256, 4096)
TENSORRT = {f"tensorrt {one}": Tensorrt(precision=one) for one in ("fp32", "fp16", "bf16", "int8", "fp8")}
ON_NETWORKS: Mapping[str, Engine] = {"pytorch cuda": Pytorch(device="cuda"), **TENSORRT}
ON_TREES: Mapping[str, Engine] = {"xgboost cuda": Xgboost(device="cuda"), "tensorrt fp32": TENSORRT["tensorrt fp32"]}
Calls = dict[str, Callable[[Float32], Any]]


def main() -> int:
    """Print a line an engine, rival and batch size; return 3 without a GPU."""
    given = arguments(__doc__, quick="a quarter of the calls")
    try:
        cuda.require("benchmarks/gpu.py")
    except EngineError as error:
        print(f"no CUDA device here, nothing was measured: {error}", file=sys.stderr)
        return 3
    _say_where(as_json=given.json)
    lines: list[Line] = []
    with TemporaryDirectory(prefix="raymlops-bench-") as folder:
        for name, (features, hidden) in NETWORKS.items():
            x = matrix(features)
            version = network(Path(folder) / name.replace(" ", "-"), features, hidden)
            rivals = _torch(version, features)
            lines += _measured(name, rivals, _loaded(ON_NETWORKS, version, x, as_json=given.json), x, quick=given.quick)
        x = matrix(28)
        version = _trees(Path(folder) / "trees", x)
        rivals = {"xgboost on the CPU": Native().load(version, version, threads=1).predict}
        lines += _measured("trees", rivals, _loaded(ON_TREES, version, x, as_json=given.json), x, quick=given.quick)
    return print_lines(lines, as_json=given.json)


def _say_where(*, as_json: bool) -> None:
    import torch

    told = {
        "device": torch.cuda.get_device_name(0),
        "capability": cuda.capability("benchmarks/gpu.py"),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
    }
    print(json.dumps(told) if as_json else " · ".join(f"{word} {value}" for word, value in told.items()), flush=True)


def _measured(model: str, rivals: Calls, ours: Calls, x: Float32, *, quick: bool) -> list[Line]:
    """Return the medians of single calls, all of a model side by side, milliseconds."""
    lines = []
    for rows in BATCHES:
        asked = {name: asking(call, x, rows=rows) for name, call in {**rivals, **ours}.items()}
        timed = latencies(asked, seconds=0.5 if quick else 2.0)
        taken = {name: float(np.median(seconds)) * 1e3 for name, seconds in timed.items()}
        for rival in rivals:
            line = Line(what="", unit="ms", ours=0, rival=taken[rival], ratio=0, bar=0)
            lines += [
                replace(
                    line,
                    what=f"{model}, {rows} rows: {name} against {rival}",
                    ours=taken[name],
                    ratio=taken[rival] / taken[name],
                )
                for name in ours
            ]
    return lines


def _torch(version: Path, features: int) -> Calls:
    """Return bare torch on the GPU: eager, and a CUDA graph a batch size of this benchmark."""
    import torch

    module = read_module(version).to("cuda")

    def eager(rows: Float32) -> Any:
        with torch.inference_mode():
            return module(torch.from_numpy(rows).to("cuda")).cpu().numpy()

    graph = captured(lambda rows: module, features=features, answer_shape=(), where="torch graph", batches=BATCHES)
    return {"torch eager": eager, "torch graph": graph.predict}


def _loaded(engines: Mapping[str, Engine], version: Path, x: Float32, *, as_json: bool) -> Calls:
    made: Calls = {}
    for name, engine in engines.items():
        artefact = version / "engines" / name.replace(" ", "-")
        artefact.mkdir(parents=True)
        try:
            engine.compile(version, artefact, sample=x[:1024])
            made[name] = engine.load(version, artefact, threads=1).predict
        except RaymlopsError as error:
            told = {"what": f"{version.name}: {name}", "problem": str(error)}
            print(json.dumps(told) if as_json else f"{told['what']} · refused · {error}", flush=True)
    return made


def _trees(folder: Path, x: Float32) -> Path:
    import xgboost

    y = np.nan_to_num(x[:, :5]).sum(axis=1) > 0
    settings = {"objective": "binary:logistic", "max_depth": 6, "seed": 0, "nthread": 1, "min_child_weight": 0}
    booster = xgboost.train(settings, xgboost.DMatrix(x, y ^ (np.arange(len(y)) % 5 == 0)), 100)
    describe(folder, "xgboost", x.shape[1], {})
    (folder / "model.ubj").write_bytes(booster.save_raw("ubj"))
    return folder


if __name__ == "__main__":
    sys.exit(main())
