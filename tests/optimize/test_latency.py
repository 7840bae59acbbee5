"""Calls are timed side by side, so that a disturbance hits all of them."""

from collections.abc import Callable

import numpy as np

from raymlops.optimize import asking, latencies


class Machine:
    """A clock that calls move on: by their own time, doubled while the machine is disturbed."""

    def __init__(self) -> None:
        self.now = 0.0
        self.order: list[str] = []

    def work(self, name: str, seconds: float) -> Callable[[], None]:
        def call() -> None:
            self.order.append(name)
            self.now += seconds * (2 if len(self.order) % 4000 > 2000 else 1)

        return call


def test_each_call_is_timed_and_the_slow_one_less_often() -> None:
    machine = Machine()
    calls = {"quick": machine.work("quick", 1e-5), "slow": machine.work("slow", 1e-2)}
    taken = latencies(calls, clock=lambda: machine.now)
    assert len(taken["quick"]) == 1000
    assert len(taken["slow"]) == 100
    assert np.isclose(np.median(taken["quick"]), 1e-5, rtol=1e-6)
    assert np.isclose(taken["slow"].min(), 1e-2, rtol=1e-6)


def test_rounds_alternate_and_start_with_another_each_time() -> None:
    machine = Machine()
    latencies({"a": machine.work("a", 1e-3), "b": machine.work("b", 1e-3)}, clock=lambda: machine.now)
    changes = sum(one != other for one, other in zip(machine.order, machine.order[1:], strict=False))
    # Each of the 20 rounds has one change inside; as the first one alternates, there is none between rounds.
    assert 20 <= changes <= 24


def test_each_call_asks_for_other_rows() -> None:
    x = np.arange(10_000, dtype=np.float32)[:, None]
    asked: list[np.ndarray] = []
    call = asking(asked.append, x, rows=256)
    for _ in range(17):
        call()
    assert {part.shape for part in asked} == {(256, 1)}
    assert len({float(part[0, 0]) for part in asked[:16]}) == 16
    assert np.array_equal(asked[16], asked[0])


def test_a_call_of_more_rows_than_there_are_repeats_them() -> None:
    asked: list[np.ndarray] = []
    asking(asked.append, np.arange(3, dtype=np.float32)[:, None], rows=7)()
    assert asked[0].ravel().tolist() == [0, 1, 2, 0, 1, 2, 0]
