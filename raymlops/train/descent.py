"""Where a fit of a network stands, kept in files from time to time, so that it goes on after a crash bit for bit.

Of several processes that fit together each keeps its own. Knows nothing of losses, or of what is fitted.
"""

from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from raymlops.codec import write_aside
from raymlops.train import together

if TYPE_CHECKING:
    import torch

__all__ = ["Descent", "Keeper"]

_EVERY_S = 30.0
_MOST_STEPS = 10**9  # of an epoch


@dataclass(slots=True, kw_only=True)
class Descent:
    """A model on its way: ``epoch`` (from 1) is under way, of which ``step`` steps are done.

    ``order`` draws the order of the rows, from the state ``drawn_from`` in this epoch. ``kept`` are the weights of the
    epoch with the best loss, on the validation rows.
    """

    model: "torch.nn.Module"
    optimizer: "torch.optim.Optimizer"
    order: "torch.Generator"
    drawn_from: "torch.Tensor"
    best_epoch: int
    epoch: int = 1
    step: int = 0
    best: float = float("inf")
    kept: "dict[str, torch.Tensor] | None" = None

    def state(self) -> "dict[str, torch.Tensor]":
        """Return all of it, and the state of torch's own random numbers, as tensors by name."""
        import torch

        place = torch.tensor([self.epoch, self.step, self.best, self.best_epoch], dtype=torch.float64)
        found = {"place": place, "order": self.drawn_from, "random": torch.get_rng_state()}
        if torch.cuda.is_initialized():
            found["random_cuda"] = torch.cuda.get_rng_state()
        found |= {f"model/{name}": tensor for name, tensor in self.model.state_dict().items()}
        found |= {f"kept/{name}": tensor for name, tensor in (self.kept or {}).items()}
        for number, moments in self.optimizer.state_dict()["state"].items():
            found |= {f"optimizer/{number}/{name}": tensor for name, tensor in moments.items()}
        return {name: tensor.detach().cpu().contiguous() for name, tensor in found.items()}

    def restore(self, state: "dict[str, torch.Tensor]") -> None:
        """Be where that was taken."""
        import torch

        device = next(self.model.parameters()).device
        self.epoch, self.step, self.best, self.best_epoch = (
            kind(value) for kind, value in zip((int, int, float, int), state["place"].tolist(), strict=True)
        )
        self.order.set_state(state["order"])
        torch.set_rng_state(state["random"])
        if "random_cuda" in state:
            torch.cuda.set_rng_state(state["random_cuda"])
        self.model.load_state_dict(_below(state, "model"))
        self.kept = {name: tensor.to(device) for name, tensor in _below(state, "kept").items()} or None
        moments: dict[int, dict[str, Any]] = {}
        for name, tensor in _below(state, "optimizer").items():
            number, _, of = name.partition("/")
            moments.setdefault(int(number), {})[of] = tensor
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})


@dataclass(slots=True, kw_only=True)
class Keeper:
    """Keeps a descent in a folder, at most every 30 seconds; in none without a folder."""

    folder: Path | None
    _last: float = field(default_factory=monotonic)

    def keep(self, descent: Descent) -> None:
        """Write where it stands if that is due; all processes of a group do it at the same step, or none."""
        if self.folder is None or together.agreed(monotonic() - self._last) < _EVERY_S:
            return
        from safetensors.torch import save

        self.folder.mkdir(parents=True, exist_ok=True)
        older = self._found()
        number = descent.epoch * _MOST_STEPS + descent.step
        write_aside(self._file(number), save(descent.state()))
        together.each(0)  # all have written theirs: what was before is not needed any more
        for one in older:
            if one != number:
                self._file(one).unlink()
        self._last = monotonic()

    def restore(self, descent: Descent) -> None:
        """Put it where it stood when all processes last kept it; leave it where that never was."""
        if self.folder is None:
            return
        from safetensors.torch import load

        newest = int(together.each(max(self._found(), default=0)).min())
        if newest:
            descent.restore(load(self._file(newest).read_bytes()))

    def _file(self, number: int) -> Path:
        assert self.folder is not None
        return self.folder / f"{number:019}.{together.rank()}.safetensors"

    def _found(self) -> list[int]:
        assert self.folder is not None
        return [int(path.name.partition(".")[0]) for path in self.folder.glob(f"*.{together.rank()}.safetensors")]


def _below(state: "dict[str, torch.Tensor]", name: str) -> "dict[str, torch.Tensor]":
    return {key.removeprefix(f"{name}/"): tensor for key, tensor in state.items() if key.startswith(f"{name}/")}
