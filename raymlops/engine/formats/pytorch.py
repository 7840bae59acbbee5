"""A multilayer perceptron on a table: `model.json` and `model.safetensors`. Knows nothing of training or of engines."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from raymlops.codec import digest_folder
from raymlops.engine.model import read_model
from raymlops.errors import EngineError
from raymlops.protocols import Predictor
from raymlops.values import Float32, Task

__all__ = ["Pytorch", "answered", "build_mlp", "export", "read_module"]


def build_mlp(
    features: int,
    categories: Sequence[int],
    hidden: Sequence[int],
    outputs: int,
    task: Task,
    *,
    dropout: float = 0.0,
) -> Any:
    """Return an untrained `torch.nn.Module` over x float32 [n, features], encoded as the contract says.

    ``categories[j]`` is the number of categories of feature j, 0 if it is a number; ``outputs`` is 1, or the number
    of classes for "multiclass". The module has

    - ``forward(x)``: the answers, P(class 1) [n], P [n, classes] or value [n];
    - ``logits(x)``: what a loss takes, of the same shape; for "regression" the value in units of ``y_std``;
    - buffers ``mean`` and ``std`` [features], in the order of x, those of categories 0 and 1, and for "regression"
      ``y_mean`` and ``y_std`` (scalars), all for the caller to fill, with no ``std`` of 0: 0 and 1 until then.

    A missing number is 0 after standardising, with an indicator of 1 beside it; a missing category, or one outside
    its range, has the first row of its embedding, and category i has row i + 1. Random numbers of the initial
    weights come from torch's global generator.
    """
    return _mlp_class()(features, tuple(categories), tuple(hidden), outputs, task, dropout)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pytorch:
    """Models that torch runs."""

    def load(self, folder: Path, *, threads: int) -> Predictor:
        """Return the model as torch runs it, on the CPU; `threads` holds for all of torch in this process."""
        import torch

        torch.set_num_threads(threads)
        return _Eager(module=read_module(folder))

    def to_onnx(self, folder: Path) -> bytes:
        """Return the exported graph: input `x` float32 [batch, features], output `y`, opset 20, weights inside."""
        return _exported(folder, digest_folder(folder))


@lru_cache(maxsize=8)
def _exported(folder: Path, digest: str) -> bytes:
    # An export takes seconds, and float32 and int8 of one version begin with the same; the digest keeps it true.
    return export(read_module(folder), read_model(folder).features)


def export(module: Any, features: int) -> bytes:
    """Return the ONNX graph of a module: input `x` float32 [batch, features], output `y`, opset 20, weights inside."""
    import io
    import logging
    import warnings

    import torch

    # Two rows: torch would take a single one for a constant. The values do not matter, only the shape.
    example = torch.zeros(2, features)
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)  # it warns of a torchvision that nothing here needs
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
                input_names=["x"],
                output_names=["y"],
                external_data=False,
                verbose=False,
            )
    finally:
        log.setLevel(level)
    buffer = io.BytesIO()
    program.save(buffer, external_data=False)
    return buffer.getvalue()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Eager:
    module: Any

    def predict(self, x: Float32) -> Float32:
        import torch

        with torch.inference_mode():
            rows = torch.from_numpy(np.require(x, np.float32, ["C", "W"]))
            return np.asarray(self.module(rows).numpy(), dtype=np.float32)


def read_module(folder: Path) -> Any:
    """Return the folder's `torch.nn.Module`, on the CPU and ready to answer; raise EngineError if its files differ."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    model = read_model(folder)
    params: dict[str, Any] = dict(model.params)
    module = build_mlp(
        model.features,
        model.categories,
        params["hidden"],
        model.classes if model.task == "multiclass" else 1,
        model.task,
        dropout=params.get("dropout", 0.0),
    )
    try:
        module.load_state_dict(load((folder / "model.safetensors").read_bytes()))
    except (RuntimeError, SafetensorError) as error:
        raise EngineError(f"{folder}: model.safetensors does not fit model.json: {error}") from error
    return module.eval()


def _mlp_class() -> Any:
    """Return the module's class; made here so that torch is loaded only when a network is wanted."""
    import torch
    from torch import nn

    class Mlp(nn.Module):  # type: ignore[misc]  # torch has no types here
        def __init__(
            self,
            features: int,
            categories: tuple[int, ...],
            hidden: tuple[int, ...],
            outputs: int,
            task: Task,
            dropout: float,
        ) -> None:
            super().__init__()
            assert len(categories) == features, f"{len(categories)} category counts for {features} features"
            self.task = task
            numeric = [j for j, count in enumerate(categories) if count == 0]
            self.categorical = [j for j, count in enumerate(categories) if count]
            self.register_buffer("numeric", torch.tensor(numeric, dtype=torch.int64), persistent=False)
            self.register_buffer("mean", torch.zeros(features))
            self.register_buffer("std", torch.ones(features))
            if task == "regression":
                self.register_buffer("y_mean", torch.zeros(()))
                self.register_buffer("y_std", torch.ones(()))
            counts = [categories[j] for j in self.categorical]
            self.embeddings = nn.ModuleList(nn.Embedding(n + 1, _dimension(n)) for n in counts)
            widths = [2 * len(numeric) + sum(_dimension(n) for n in counts), *hidden]
            steps = [(nn.Linear(before, after), nn.ReLU(), nn.Dropout(dropout)) for before, after in pairwise(widths)]
            self.layers = nn.Sequential(*chain.from_iterable(steps), nn.Linear(widths[-1], outputs))

        def logits(self, x: Any) -> Any:
            y = self.layers(torch.cat(_inputs(self, x), dim=1))
            return y if self.task == "multiclass" else y.squeeze(1)

        def forward(self, x: Any) -> Any:
            return answered(self, self.logits(x))

    return Mlp


def answered(module: Any, y: Any) -> Any:
    """Return the answers of a network's logits, or of its values in units of ``y_std``, by its ``task``."""
    import torch

    if module.task == "binary":
        return torch.sigmoid(y)
    if module.task == "multiclass":
        return torch.softmax(y, dim=1)
    return y * module.y_std + module.y_mean


def _inputs(module: Any, x: Any) -> list[Any]:
    """Return what the first layer sees, part by part: numbers, their indicators, an embedding a category."""
    import torch

    inputs = []
    if len(module.numeric):
        values = (x - module.mean) / module.std
        if module.categorical:
            values = torch.index_select(values, 1, module.numeric)
        missing = torch.isnan(values)
        inputs = [torch.where(missing, 0.0, values), missing.to(x.dtype)]
    for j, embedding in zip(module.categorical, module.embeddings, strict=True):
        row = torch.where(torch.isnan(x[:, j]), 0.0, x[:, j] + 1.0).to(torch.int64)
        known = (row >= 0) & (row < embedding.num_embeddings)
        inputs.append(embedding(torch.where(known, row, 0)))
    return inputs


def _dimension(categories: int) -> int:
    # The rule of thumb of fastai (Howard and Gugger 2020, chapter 9), capped for small tables.
    return min(16, round(1.6 * math.pow(categories, 0.56)))
