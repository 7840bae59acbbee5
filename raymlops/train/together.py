"""What the processes of a torch fit tell each other. Knows nothing of networks; without a group there is but one."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from raymlops.train.seeds import seed_of
from raymlops.values import Float64, Group

if TYPE_CHECKING:
    import torch

__all__ = ["agreed", "batches", "each", "joined", "logits_of", "part_of_loss", "rank", "size", "total", "worker_seed"]

_WAIT = timedelta(minutes=30)  # for another process that is alive: one that died is noticed at once


@contextmanager
def joined(group: Group, *, device: str) -> Iterator[None]:
    """Hold a process group of torch: NCCL on "cuda", else Gloo."""
    from torch import distributed

    # After a group whose store is libuv's, the next group of XGBoost in the same process fails with EINTR.
    store = f"tcp://{group.host}:{group.port}?use_libuv=0"
    backend = "nccl" if device == "cuda" else "gloo"
    distributed.init_process_group(backend, init_method=store, world_size=group.size, rank=group.rank, timeout=_WAIT)
    yield
    distributed.destroy_process_group()


def worker_seed(seed: int) -> int:
    """Return the seed of this process below that of the fit."""
    at, size = _place()
    return seed if size == 1 else seed_of(seed, "worker", at)


def total(part: npt.ArrayLike) -> Float64:
    """Return the sum of what each process gives, float64 of one shape."""
    if _place()[1] == 1:
        return np.asarray(part, dtype=np.float64)
    import torch
    from torch import distributed

    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
    held = torch.from_numpy(np.array(part, dtype=np.float64)).to(device)
    distributed.all_reduce(held)
    summed: Float64 = held.cpu().numpy().reshape(np.shape(part))
    return summed


def agreed(value: float) -> float:
    """Return what rank 0 gives: processors of two kinds may differ in a last bit, and must not part over it."""
    return float(total(value if rank() == 0 else 0.0))


def each(value: float) -> Float64:
    """Return what each process gives, float64 [processes]; all have given theirs by then."""
    at, size = _place()
    found = np.zeros(size)
    found[at] = value
    return total(found)


def size() -> int:
    """Return how many processes there are."""
    return _place()[1]


def rank() -> int:
    """Return which of the processes this one is, from 0."""
    return _place()[0]


def batches(order: "torch.Tensor", batch_size: int, counts: Sequence[int] | npt.NDArray[np.int64]) -> Any:
    """Return the steps of a pass over this process's rows, whose numbers ``order`` holds: as many in each process.

    Together the parts of a step are ``batch_size`` rows, or a few less.
    """
    if len(counts) == 1:
        return order.split(batch_size)
    return order.tensor_split(_steps(batch_size, counts))


def part_of_loss(
    losses: "torch.Tensor", step: int, batch_size: int, counts: Sequence[int] | npt.NDArray[np.int64]
) -> "torch.Tensor":
    """Return the mean loss of a step; in a group, what each process adds to it, times their number.

    The mean of the processes' gradients is then that of all rows of the step.
    """
    if len(counts) == 1:
        return losses.mean()
    steps = _steps(batch_size, counts)
    rows = sum(int(count) // steps + (step < int(count) % steps) for count in counts)
    return losses.sum() * (len(counts) / max(rows, 1))


def logits_of(model: Any) -> Callable[["torch.Tensor"], "torch.Tensor"]:
    """Return what calls ``model.logits``; in a group its gradients are the mean of those of all processes."""
    if _place()[1] == 1:
        made: Callable[[torch.Tensor], torch.Tensor] = model.logits
        return made
    from torch import nn

    class Logits(nn.Module):  # type: ignore[misc]  # torch has no types here
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Any) -> Any:
            return self.model.logits(x)

    # It then keeps its buckets of gradients as they are, so that a fit which goes on adds up as one that never stopped.
    wrapped: Callable[[torch.Tensor], torch.Tensor] = nn.parallel.DistributedDataParallel(
        Logits(), find_unused_parameters=True
    )
    return wrapped


def _steps(batch_size: int, counts: Sequence[int] | npt.NDArray[np.int64]) -> int:
    most = max(int(count) for count in counts)
    return max(1, -(-most * len(counts) // batch_size))


def _place() -> tuple[int, int]:
    """Return this process's rank and how many there are."""
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()
