"""Processes that make fit after fit together, of one library after the other."""

import multiprocessing
import socket
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from raymlops.train import together  # noqa: E402
from raymlops.train.trainers.pytorch import Pytorch  # noqa: E402
from raymlops.train.trainers.xgboost import Xgboost  # noqa: E402
from raymlops.values import Examples, Group  # noqa: E402

ROUNDS = ("xgboost", "pytorch") * 3


def _series(rank: int, ports: Sequence[int]) -> list[bytes]:
    """Fit in a group of two, again and again; return the bytes of each."""
    random = np.random.default_rng(rank)
    x = random.normal(size=(300, 2)).astype(np.float32)
    rows, made = Examples(x=x, y=(x[:, 0] > 0).astype(np.float64)), []
    for kind, port in zip(ROUNDS, ports, strict=True):
        trainer = Xgboost(rounds=5) if kind == "xgboost" else Pytorch(hidden=(4,), epochs=1)
        with trainer.joined(Group(rank=rank, size=2, host="127.0.0.1", port=port)):
            fitted = trainer.fit(rows, None, categories=(0, 0), task="binary", classes=2, seed=0, threads=1)
        made.append(next(iter(fitted.files.values())))
    return made


def _free_ports(count: int) -> list[int]:
    held = [socket.socket() for _ in range(count)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def test_one_library_after_the_other_fits_in_the_same_processes() -> None:
    ports = _free_ports(len(ROUNDS))
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as processes:
        waited = [processes.submit(_series, rank, ports) for rank in range(2)]
        one, other = (future.result(timeout=100) for future in waited)
    assert one == other
    assert one == one[:2] * 3


@pytest.mark.parametrize("counts", [(10, 10), (11, 10), (7, 0, 8)])
@pytest.mark.parametrize("batch_size", [4, 100])
def test_parts_of_a_step_add_up_to_the_mean_over_the_rows_of_all(counts: tuple[int, ...], batch_size: int) -> None:
    losses = [torch.arange(count, dtype=torch.float64) + 10 * rank for rank, count in enumerate(counts)]
    parts = [together.batches(rows, batch_size, counts) for rows in losses]
    assert len({len(part) for part in parts}) == 1, "each process takes as many steps"
    for step, rows in enumerate(zip(*parts, strict=True)):
        found = [together.part_of_loss(part, step, batch_size, counts) for part in rows]
        assert float(sum(found)) / len(counts) == pytest.approx(float(torch.cat(rows).mean()))
        assert sum(map(len, rows)) <= batch_size + len(counts)
