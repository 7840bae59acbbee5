"""The networks that benchmarks ask: folders of a version, as a trainer would leave them, and rows. Knows no engine."""

import json
from pathlib import Path

import numpy as np

from raymlops.engine.formats.pytorch import build_mlp
from raymlops.values import Float32

__all__ = ["NETWORKS", "describe", "matrix", "network"]

NETWORKS = {"network 28-256-256-1": (28, (256, 256)), "network 1024x4": (1024, (1024, 1024, 1024))}


def matrix(features: int) -> Float32:
    """Return 4,096 rows, a tenth of their numbers missing."""
    random = np.random.default_rng(0)
    x = random.normal(size=(4096, features)).astype(np.float32)
    x[random.random(x.shape) < 0.1] = np.nan
    return x


def network(folder: Path, features: int, hidden: tuple[int, ...]) -> Path:
    """Write a network with the weights it begins with; return the folder."""
    import torch
    from safetensors.torch import save

    torch.manual_seed(0)
    module = build_mlp(features, [0] * features, hidden, 1, "binary")
    describe(folder, "pytorch", features, {"hidden": list(hidden), "dropout": 0.0})
    (folder / "model.safetensors").write_bytes(save(module.state_dict()))
    return folder


def describe(folder: Path, form: str, features: int, params: dict[str, object]) -> None:
    """Make the folder of a binary model without categories, with its `model.json`."""
    folder.mkdir()
    described = {"format": form, "task": "binary", "classes": 2, "features": features, "categories": [0] * features}
    (folder / "model.json").write_text(json.dumps({**described, "params": params}))
