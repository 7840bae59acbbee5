"""What each engine gains over a bare call of the library. Run: python benchmarks/optimize.py [--quick] [--json].

Two models with 28 features: 100 trees of depth 6, and a network 28-256-256-1. One thread. All engines of a model
are timed side by side, in rounds; the numbers are medians of single calls, in milliseconds.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from line import Line, arguments, print_lines

from raymlops.engine.engines.native import Native
from raymlops.engine.engines.onnxruntime import Onnxruntime
from raymlops.engine.formats.pytorch import build_mlp
from raymlops.optimize import asking, latencies
from raymlops.protocols import Engine
from raymlops.values import Float32

FEATURES = 28

# Model, what, its rival, rows a call, and the least ratio (0: told, not promised).
LINES = (
    ("trees", "native", "bare inplace_predict", 1, 0.8),
    ("trees", "native", "bare inplace_predict", 4096, 0.95),
    ("trees", "onnxruntime", "bare inplace_predict", 1, 5.0),
    ("trees", "onnxruntime", "bare inplace_predict", 256, 0.0),
    ("trees", "onnxruntime", "bare inplace_predict", 4096, 0.0),
    ("network", "native", "bare torch eager", 1, 0.8),
    ("network", "native", "bare torch eager", 256, 0.9),
    ("network", "onnxruntime", "bare torch eager", 1, 2.0),
    ("network", "onnxruntime", "bare torch eager", 256, 0.8),
    ("network", "onnxruntime int8", "bare torch eager", 256, 1.0),
    ("network", "onnxruntime int8", "onnxruntime", 256, 1.3),
    ("network", "onnxruntime int8", "onnxruntime", 1, 0.0),
)


def main() -> int:
    """Print a line a comparison; return 1 when a bar is missed."""
    given = arguments(__doc__, quick="a quarter of the calls")
    random = np.random.default_rng(0)
    x = random.normal(size=(4096, FEATURES)).astype(np.float32)
    x[random.random(x.shape) < 0.1] = np.nan
    taken: dict[tuple[str, int, str], float] = {}
    with TemporaryDirectory(prefix="raymlops-bench-") as folder:
        models = {"trees": _trees(Path(folder), x), "network": _network(Path(folder), x)}
        for model, calls in models.items():
            for rows in sorted({line[3] for line in LINES if line[0] == model}):
                asked = {name: asking(call, x, rows=rows) for name, call in calls.items()}
                timed = latencies(asked, seconds=0.5 if given.quick else 2.0)
                taken |= {(model, rows, name): float(np.median(s)) * 1e3 for name, s in timed.items()}
    lines = []
    for model, what, rival, rows, bar in LINES:
        ours, theirs = taken[model, rows, what], taken[model, rows, rival]
        named = f"{model}, {rows} rows: {what} against {rival}"
        lines.append(Line(what=named, unit="ms", ours=ours, rival=theirs, ratio=theirs / ours, bar=bar))
    return print_lines(lines, as_json=given.json)


def _trees(root: Path, x: Float32) -> dict[str, Callable[[Float32], object]]:
    import xgboost

    y = np.nan_to_num(x[:, :5]).sum(axis=1) > 0
    settings = {"objective": "binary:logistic", "max_depth": 6, "seed": 0, "nthread": 1, "min_child_weight": 0}
    booster = xgboost.train(settings, xgboost.DMatrix(x, y ^ (np.arange(len(y)) % 5 == 0)), 100)
    folder = _folder(root / "trees", "xgboost", {})
    (folder / "model.ubj").write_bytes(booster.save_raw("ubj"))
    bare = xgboost.Booster(model_file=str(folder / "model.ubj"))
    bare.set_param({"nthread": 1})
    engines: dict[str, Engine] = {"native": Native(), "onnxruntime": Onnxruntime()}
    return {"bare inplace_predict": bare.inplace_predict, **_loaded(engines, folder, x)}


def _network(root: Path, x: Float32) -> dict[str, Callable[[Float32], object]]:
    import torch
    from safetensors.torch import save

    torch.manual_seed(0)
    torch.set_num_threads(1)
    module = build_mlp(FEATURES, [0] * FEATURES, [256, 256], 1, "binary").eval()
    folder = _folder(root / "network", "pytorch", {"hidden": [256, 256], "dropout": 0.0})
    (folder / "model.safetensors").write_bytes(save(module.state_dict()))

    def bare(rows: Float32) -> Any:
        with torch.inference_mode():
            return module(torch.from_numpy(rows)).numpy()

    int8 = Onnxruntime(precision="int8")
    engines: dict[str, Engine] = {"native": Native(), "onnxruntime": Onnxruntime(), "onnxruntime int8": int8}
    return {"bare torch eager": bare, **_loaded(engines, folder, x)}


def _folder(folder: Path, form: str, params: dict[str, object]) -> Path:
    folder.mkdir()
    described = {"format": form, "task": "binary", "classes": 2, "features": FEATURES, "categories": [0] * FEATURES}
    (folder / "model.json").write_text(json.dumps({**described, "params": params}))
    return folder


def _loaded(engines: dict[str, Engine], folder: Path, x: Float32) -> dict[str, Callable[[Float32], object]]:
    made: dict[str, Callable[[Float32], object]] = {}
    for name, engine in engines.items():
        artefact = folder / "engines" / name.replace(" ", "-")
        artefact.mkdir(parents=True)
        engine.compile(folder, artefact, sample=x[:1024])
        made[name] = engine.load(folder, artefact, threads=1).predict
    return made


if __name__ == "__main__":
    sys.exit(main())
