"""A user's own `nn.Module` as the network of a trainer: found by its import path, given prepared rows, kept as ONNX.

Knows nothing of how it is trained. What answers later is the graph: code that changes or goes takes no version with it.
"""

import importlib
import inspect
import os
import sys
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from raymlops.engine.formats.pytorch import answered
from raymlops.errors import SpecError
from raymlops.values import JsonValue, Task

__all__ = ["build_user_module", "code_of", "without_traces"]


def build_user_module(
    path: str,
    arguments: Mapping[str, JsonValue],
    *,
    categories: Sequence[int],
    outputs: int,
    task: Task,
) -> Any:
    """Return the module at `PACKAGE.FILE:CLASS`, wrapped so that it takes encoded rows as `build_mlp`'s does.

    It is made as `CLASS(features=…, categories=…, outputs=…, **arguments)`, and called with float32 [n, features]:
    numbers are standardised, 0 where missing; a category is its index + 1, 0 where missing. It returns
    [n, outputs], or [n] for one: logits, or a number in units of the label's spread. Raise SpecError for what cannot be
    imported or made, or gives another shape.
    """
    import torch

    kind = _imported(path)
    try:
        inner = kind(features=len(categories), categories=tuple(categories), outputs=outputs, **arguments)
    except TypeError as error:
        raise SpecError(
            f"train.trainers.pytorch.module: {path} cannot be made ({error}); it is called with features, categories, "
            f"outputs{''.join(f', {name}' for name in arguments)}"
        ) from error
    if not isinstance(inner, torch.nn.Module):
        raise SpecError(f"train.trainers.pytorch.module: {path} makes a {type(inner).__name__}, not a torch.nn.Module")
    made = _wrapped_class()(inner, tuple(categories), outputs, task)
    _try(made, path, len(categories), outputs)
    return made


def code_of(path: str) -> str:
    """Return the sha256 of the file that the class stands in."""
    return sha256(Path(inspect.getfile(_imported(path))).read_bytes()).hexdigest()


def without_traces(graph: bytes) -> bytes:
    """Return an ONNX graph without the lines of Python that it came from: they name folders of this machine."""
    import onnx

    model = onnx.load_model_from_string(graph)
    graphs = [model.graph, *model.functions]
    for one in graphs:
        for node in one.node:
            del node.metadata_props[:]
            node.doc_string = ""
        del one.metadata_props[:]
    for value in [*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer]:
        del value.metadata_props[:]
        value.doc_string = ""
    del model.metadata_props[:]
    model.doc_string = ""
    return bytes(model.SerializeToString(deterministic=True))


def _imported(path: str) -> Any:
    name, colon, kind = path.partition(":")
    if not (name and colon and kind):
        raise SpecError(f"train.trainers.pytorch.module: {path!r} given; write FILE:CLASS, as nets:Wide")
    here = os.getcwd()
    if here not in sys.path:  # a command's own folder is its first, not the one it is called in
        sys.path.insert(0, here)
    try:
        return getattr(importlib.import_module(name), kind)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise SpecError(
            f"train.trainers.pytorch.module: {path} cannot be imported ({error}); it is looked for in {here} and among "
            "installed packages"
        ) from error


def _try(made: Any, path: str, features: int, outputs: int) -> None:
    import torch

    made.eval()
    with torch.no_grad():
        try:
            given = made.inner(torch.zeros(3, features))
        except RuntimeError as error:
            raise SpecError(f"train.trainers.pytorch.module: {path} fails on 3 rows of {features}: {error}") from error
    if tuple(given.shape) not in ({(3,), (3, 1)} if outputs == 1 else {(3, outputs)}):
        raise SpecError(
            f"train.trainers.pytorch.module: {path} gives {tuple(given.shape)} for 3 rows, (3, {outputs}) is needed"
        )
    made.train()


def _wrapped_class() -> Any:
    """Return the wrapper's class; made here so that torch is loaded only when a network is wanted."""
    import torch
    from torch import nn

    class Wrapped(nn.Module):  # type: ignore[misc]  # torch has no types here
        def __init__(self, inner: Any, categories: tuple[int, ...], outputs: int, task: Task) -> None:
            super().__init__()
            self.inner, self.task, self.outputs = inner, task, outputs
            features = len(categories)
            self.register_buffer("counts", torch.tensor(categories, dtype=torch.float32), persistent=False)
            self.register_buffer("mean", torch.zeros(features))
            self.register_buffer("std", torch.ones(features))
            if task == "regression":
                self.register_buffer("y_mean", torch.zeros(()))
                self.register_buffer("y_std", torch.ones(()))

        def logits(self, x: Any) -> Any:
            missing = torch.isnan(x)
            known = (x >= 0) & (x < self.counts)
            index = torch.where(known, x + 1.0, 0.0)
            number = torch.where(missing, 0.0, (x - self.mean) / self.std)
            y = self.inner(torch.where(self.counts > 0, index, number))
            return y.reshape(y.shape[0]) if self.outputs == 1 else y

        def forward(self, x: Any) -> Any:
            return answered(self, self.logits(x))

    return Wrapped
