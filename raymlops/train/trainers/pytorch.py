"""A tabular multilayer perceptron in torch: standardised numbers, embedded categories, early stopping."""

import json
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from raymlops.engine import cuda
from raymlops.errors import StageFailed
from raymlops.protocols import Fitted
from raymlops.train import together
from raymlops.train.descent import Descent, Keeper
from raymlops.train.user_module import build_user_module, code_of, without_traces
from raymlops.values import Examples, Group, JsonValue, Task

if TYPE_CHECKING:
    import torch

__all__ = ["Pytorch"]

_KEPT_AFTER = 16  # steps it may be kept; more often than that it is not asked whether it is due
_RATE_OF_MORE = 10  # by which `proceed` is slower


@dataclass(frozen=True, slots=True, kw_only=True)
class Pytorch:
    """`hidden`: widths of the hidden layers; `epochs`: the most passes over the rows; `patience`: passes without a
    better loss on the validation rows after which the fit stops and the best weights are kept, 0 never stops early.
    `module`, FILE:CLASS, is a network of your own in place of the layers, made with `arguments` (`train/user_module.py`
    says how it is called). `precision` "bf16" computes products in bfloat16 and keeps weights in float32.
    """

    hidden: tuple[int, ...] = (128, 64)
    dropout: float = 0.1
    learning_rate: float = 0.002
    weight_decay: float = 0.0001
    batch_size: int = 1024
    epochs: int = 10
    patience: int = 2
    module: str | None = None
    arguments: dict[str, JsonValue] = field(default_factory=dict)
    device: Literal["cpu", "cuda"] = "cpu"
    precision: Literal["float32", "bf16"] = "float32"

    def fit(
        self,
        train: Examples,
        valid: Examples | None,
        *,
        categories: Sequence[int],
        task: Task,
        classes: int,
        seed: int,
        threads: int,
        kept: Path | None = None,
    ) -> Fitted:
        """Fit with AdamW under torch's deterministic algorithms; kept are weights, moments and random states."""
        self._make_ready(seed=seed, threads=threads)
        model = self._module(categories, task=task, outputs=classes if task == "multiclass" else 1)
        _standardise(model, train, categories, task)
        stops = valid if self.patience > 0 else None
        epochs = self._descend(model.to(self.device), train, stops, Keeper(folder=kept), task=task, seed=seed)
        return self._fitted(model, epochs=epochs)

    def joined(self, group: Group) -> AbstractContextManager[None]:
        """Join a process group of torch: gradients are then the mean of all processes' (DistributedDataParallel)."""
        return together.joined(group, device=self.device)

    def _make_ready(self, *, seed: int, threads: int) -> None:
        import torch

        if self.device == "cuda":
            cuda.require("train.trainers.pytorch.device")
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS is not deterministic
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(True)
        torch.manual_seed(seed)

    def _fitted(self, model: Any, *, epochs: int) -> Fitted:
        from safetensors.torch import save

        model.to("cpu")
        params = json.loads(json.dumps({**asdict(self), "epochs": epochs, "patience": 0}))
        weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
        files = {"model.safetensors": save(weights)}
        if self.module is None:
            return Fitted(format="pytorch", files=files, params=params)
        return Fitted(format="onnx", files={**files, "model.onnx": _exported(model, len(model.mean))}, params=params)

    def proceed(
        self,
        start: Path,
        train: Examples,
        *,
        categories: Sequence[int],
        task: Task,
        classes: int,
        seed: int,
        threads: int,
    ) -> Fitted:
        """Pass over the rows once more, at a tenth of the rate, from the weights that are there."""
        from safetensors.torch import load

        self._make_ready(seed=seed, threads=threads)
        model = self._module(categories, task=task, outputs=classes if task == "multiclass" else 1)
        model.load_state_dict(load((start / "model.safetensors").read_bytes()))
        slower = replace(self, epochs=1, learning_rate=self.learning_rate / _RATE_OF_MORE)
        slower._descend(model.to(self.device), train, None, Keeper(folder=None), task=task, seed=seed)
        return self._fitted(model, epochs=self.epochs)

    def gpus(self) -> float:
        """Return 1 on "cuda", else 0."""
        return 1.0 if self.device == "cuda" else 0.0

    def code(self) -> str:
        """Return the digest of the file of `module`."""
        return code_of(self.module) if self.module else ""

    def shortened(self, share: float) -> "Pytorch":
        """Return the trainer with a share of the epochs, one at least."""
        return replace(self, epochs=max(1, round(self.epochs * share)))

    def _module(self, categories: Sequence[int], *, task: Task, outputs: int) -> Any:
        if self.module is not None:
            return build_user_module(self.module, self.arguments, categories=categories, outputs=outputs, task=task)
        from raymlops.engine.formats.pytorch import build_mlp

        return build_mlp(
            features=len(categories),
            categories=list(categories),
            hidden=list(self.hidden),
            dropout=self.dropout,
            outputs=outputs,
            task=task,
        )

    def _descend(
        self, model: Any, train: Examples, valid: Examples | None, keeper: Keeper, *, task: Task, seed: int
    ) -> int:
        """Fit the model, and return the number of epochs after which it was best."""
        import torch

        order = torch.Generator().manual_seed(together.worker_seed(seed))
        if together.size() > 1:
            torch.manual_seed(together.worker_seed(seed))  # for what is dropped; the first weights are the same in all
        optimizer = torch.optim.AdamW(model.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        descent = Descent(
            model=model, optimizer=optimizer, order=order, drawn_from=order.get_state(), best_epoch=self.epochs
        )
        keeper.restore(descent)
        steps = self._steps(model, train, task)
        while descent.epoch <= self.epochs:
            loss = steps(descent, keeper)
            if not np.isfinite(loss):
                raise StageFailed(
                    f"train.trainers.pytorch: the loss is {loss} after epoch {descent.epoch}: the fit diverged; "
                    f"lower learning_rate, {self.learning_rate:g} given"
                )
            if valid is not None:
                current = together.agreed(_validation_loss(model, valid, task))
                if current < descent.best:
                    descent.best, descent.best_epoch = current, descent.epoch
                    descent.kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
                if descent.epoch - descent.best_epoch >= self.patience:
                    break
            descent.epoch, descent.step = descent.epoch + 1, 0
        if descent.kept is not None:
            model.load_state_dict(descent.kept)
        model.eval()
        return descent.best_epoch

    def _steps(self, model: Any, train: Examples, task: Task) -> Callable[[Descent, Keeper], float]:
        """Return what makes the steps that are left of an epoch, and returns the loss of the last one."""
        import torch

        x, y = torch.from_numpy(train.x).to(self.device), _target(model, train, task)
        weight = None if train.weight is None else torch.from_numpy(train.weight).to(self.device)
        counts, logits = together.each(len(x)).astype(np.int64), together.logits_of(model)

        def steps(descent: Descent, keeper: Keeper) -> float:
            model.train()
            descent.drawn_from = descent.order.get_state()
            shuffled = torch.randperm(len(x), generator=descent.order).to(self.device)
            for step, rows in enumerate(together.batches(shuffled, self.batch_size, counts)):
                if step < descent.step:
                    continue
                if step % _KEPT_AFTER == 0:
                    keeper.keep(descent)
                descent.optimizer.zero_grad(set_to_none=True)
                with torch.autocast(self.device, torch.bfloat16, enabled=self.precision == "bf16"):
                    losses = _losses(logits(x[rows]), y[rows], task, None if weight is None else weight[rows])
                    loss = together.part_of_loss(losses, step, self.batch_size, counts)
                loss.backward()
                descent.optimizer.step()
                descent.step = step + 1
            return float(together.total(loss.item()))

        return steps


def _exported(model: Any, features: int) -> bytes:
    from raymlops.engine.formats.pytorch import export

    return without_traces(export(model.eval(), features))


def _standardise(model: Any, train: Examples, categories: Sequence[int], task: Task) -> None:
    import torch

    total = together.total
    with np.errstate(all="ignore"):
        numeric = np.array([count == 0 for count in categories])
        present = np.maximum(total(np.isfinite(train.x).sum(axis=0, dtype=np.float64)), 1)
        mean = total(np.nansum(train.x, axis=0, dtype=np.float64)) / present
        spread = np.sqrt(total(np.nansum((train.x - mean) ** 2, axis=0, dtype=np.float64)) / present)
    spread = np.where(spread > 1e-12, spread, 1.0)
    rows = total(len(train.y))
    y_mean = total(train.y.sum()) / rows
    with torch.no_grad():
        model.mean.copy_(torch.from_numpy(np.where(numeric, mean, 0.0)[: len(model.mean)]))
        model.std.copy_(torch.from_numpy(np.where(numeric, spread, 1.0)[: len(model.std)]))
        if task == "regression":
            model.y_mean.fill_(float(y_mean))
            model.y_std.fill_(float(np.sqrt(total(((train.y - y_mean) ** 2).sum()) / rows)) or 1.0)


def _target(model: Any, rows: Examples, task: Task) -> "torch.Tensor":
    import torch

    device = model.mean.device
    if task == "multiclass":
        return torch.from_numpy(rows.y.astype(np.int64)).to(device)
    y = torch.from_numpy(rows.y.astype(np.float32)).to(device)
    return (y - model.y_mean) / model.y_std if task == "regression" else y


def _losses(
    logits: "torch.Tensor", y: "torch.Tensor", task: Task, weight: "torch.Tensor | None" = None
) -> "torch.Tensor":
    from torch.nn import functional

    loss: Any = {
        "multiclass": functional.cross_entropy,
        "binary": functional.binary_cross_entropy_with_logits,
        "regression": functional.mse_loss,
    }[task]
    each: torch.Tensor = loss(logits, y, reduction="none")
    return each if weight is None else each * weight


def _validation_loss(model: Any, valid: Examples, task: Task) -> float:
    import torch

    model.eval()
    x, y = torch.from_numpy(valid.x).to(model.mean.device), _target(model, valid, task)
    with torch.inference_mode():
        parts = [_losses(model.logits(x[rows]), y[rows], task).sum() for rows in torch.arange(len(x)).split(8192)]
    return float(sum(parts)) / len(x)
