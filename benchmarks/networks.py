"""Version folders of networks and trees with weights from a seed, for benchmarks. Knows nothing of what is measured."""

import json
from pathlib import Path

import numpy as np

from raymlops.engine.formats.pytorch import build_mlp
from raymlops.values import Float32

__all__ = ["network", "rows", "trees"]


def rows(features: int, *, count: int = 4096) -> Float32:
    """Return normal numbers, a tenth of them missing."""
    random = np.random.default_rng(0)
    x = random.normal(size=(count, features)).astype(np.float32)
    x[random.random(x.shape) < 0.1] = np.nan
    return x


def network(folder: Path, features: int, hidden: tuple[int, ...]) -> Path:
    """Write a network for two classes; return its folder."""
    import torch
    from safetensors.torch import save

    torch.manual_seed(0)
    module = build_mlp(features, [0] * features, hidden, 1, "binary")
    _describe(folder, "pytorch", features, {"hidden": list(hidden), "dropout": 0.0})
    (folder / "model.safetensors").write_bytes(save(module.state_dict()))
    return folder


def trees(folder: Path, x: Float32) -> Path:
    """Write 100 trees of depth 6 for two classes; return their folder."""
    import xgboost

    y = np.nan_to_num(x[:, :5]).sum(axis=1) > 0
    settings = {"objective": "binary:logistic", "max_depth": 6, "seed": 0, "nthread": 1, "min_child_weight": 0}
    booster = xgboost.train(settings, xgboost.DMatrix(x, y ^ (np.arange(len(y)) % 5 == 0)), 100)
    _describe(folder, "xgboost", x.shape[1], {})
    (folder / "model.ubj").write_bytes(booster.save_raw("ubj"))
    return folder


def _describe(folder: Path, form: str, features: int, params: dict[str, object]) -> None:
    folder.mkdir()
    described = {"format": form, "task": "binary", "classes": 2, "features": features, "categories": [0] * features}
    (folder / "model.json").write_text(json.dumps({**described, "params": params}))
