"""Real tasks, real threads, real time: what callers of a batcher get, and what its model sees."""

import asyncio
import gc
import threading
import time
import weakref
from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random

import numpy as np
import pytest

from raymlops.errors import EngineError, Unavailable
from raymlops.serve.batch import Batching
from raymlops.serve.batcher import Batcher, Late
from raymlops.values import Float32

POISON = -1.0


class Model:
    """Doubles its rows, raises on poison, notes its batches; with its gate shut it waits inside."""

    def __init__(self) -> None:
        self.batches: list[Float32] = []
        self.inside = 0
        self.most_inside = 0
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, x: Float32) -> Float32:
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        self.batches.append(x)
        opened = self.gate.wait(timeout=20)
        self.inside -= 1
        assert opened, "the test never opened the gate"
        if POISON in x:
            raise ValueError("poison")
        return 2 * x[:, 0]

    @property
    def seen(self) -> list[float]:
        return [value for x in self.batches for value in x[:, 0].tolist()]


def rows(*values: float) -> Float32:
    return np.array(values, dtype=np.float32).reshape(-1, 1)


def batcher(model: Callable[[Float32], Float32], **options: float) -> Batcher:
    return Batcher(model, name="small", limits=Batching(**{"most_rows": 8, **options}))  # type: ignore[arg-type]


async def until(holds: Callable[[], bool]) -> None:
    """Let the loop turn until something holds, for 10 seconds at most."""
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.001)


async def outcomes(*calls: Awaitable[Float32]) -> list[list[float] | type[BaseException]]:
    found = await asyncio.gather(*calls, return_exceptions=True)
    return [type(one) if isinstance(one, BaseException) else one.tolist() for one in found]


def test_requests_that_come_together_are_computed_together_and_each_gets_its_own() -> None:
    model = Model()

    async def run() -> list[list[float] | type[BaseException]]:
        own = batcher(model)
        return await outcomes(own.predict(rows(1)), own.predict(rows(2, 3)), own.predict(rows()), own.predict(rows(4)))

    assert asyncio.run(run()) == [[2], [4, 6], [], [8]]
    assert len(model.batches) == 1


def test_what_comes_while_a_batch_is_computed_makes_the_next_one_and_the_loop_stays_free() -> None:
    model = Model()
    model.gate.clear()

    async def run() -> list[list[float] | type[BaseException]]:
        own = batcher(model)
        first = asyncio.ensure_future(own.predict(rows(0)))
        await until(lambda: model.inside == 1)
        others = [asyncio.ensure_future(own.predict(rows(i))) for i in range(1, 11)]
        await until(lambda: own.waiting == 10)
        model.gate.set()  # from the loop, while the model is inside
        return await outcomes(first, *others)

    assert asyncio.run(run()) == [[2 * i] for i in range(11)]
    assert [len(x) for x in model.batches] == [1, 8, 2]
    assert model.most_inside == 1


@pytest.mark.parametrize("comes", [True, False], ids=["comes", "is refused"])
def test_a_batch_is_held_for_a_request_that_is_being_read(comes: bool) -> None:
    model = Model()

    async def read(own: Batcher, first: "asyncio.Future[Float32]") -> list[float]:
        with own.expecting():
            await until(lambda: own.waiting == 1)
            await asyncio.sleep(0.02)
            assert not first.done()
        return (await own.predict(rows(2))).tolist() if comes else []

    async def run() -> None:
        own = batcher(model, wait_ms=60_000)
        with own.expecting():
            pass
        first = asyncio.ensure_future(own.predict(rows(1)))
        assert await read(own, first) == ([4] if comes else [])
        assert (await first).tolist() == [2]

    asyncio.run(run())
    assert model.seen == [1, 2] if comes else [1]
    assert len(model.batches) == 1


def test_a_batch_is_not_held_longer_than_it_may_be() -> None:
    async def run() -> None:
        own = batcher(Model(), wait_ms=10)
        with own.expecting():
            async with asyncio.timeout(10):
                assert [(await own.predict(rows(i))).tolist() for i in range(3)] == [[0], [2], [4]]

    asyncio.run(run())


def test_a_caller_that_leaves_before_its_batch_is_not_computed_and_one_that_leaves_later_hurts_nobody() -> None:
    model = Model()
    model.gate.clear()

    async def run() -> list[list[float] | type[BaseException]]:
        own = batcher(model)
        computed = [asyncio.ensure_future(own.predict(rows(i, i))) for i in (0, 1, 2)]
        await until(lambda: model.inside == 1)
        held = [asyncio.ensure_future(own.predict(rows(i))) for i in (3, 4, 5)]
        await until(lambda: own.waiting == 3)
        computed[1].cancel()
        held[1].cancel()
        await until(lambda: own.waiting == 2)
        model.gate.set()
        return await outcomes(*computed, *held)

    left = asyncio.CancelledError
    assert asyncio.run(run()) == [[0, 0], left, [4, 4], [6], left, [10]]
    assert model.seen == [0, 0, 1, 1, 2, 2, 3, 5]


def test_a_caller_that_is_cancelled_while_its_answer_comes_in_hurts_nobody() -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        calls: list[asyncio.Future[Float32]] = []

        def model(x: Float32) -> Float32:
            # A turn later, which is when the batch comes back.
            loop.call_soon_threadsafe(lambda: loop.call_soon(calls[0].cancel))
            return 2 * x[:, 0]

        own = batcher(model)
        for _ in range(50):
            calls[:] = [asyncio.ensure_future(own.predict(rows(i))) for i in range(2)]
            async with asyncio.timeout(10):
                assert await outcomes(*calls) in ([asyncio.CancelledError, [2]], [[0], [2]])

    asyncio.run(run())


def test_a_poisoned_request_fails_alone_with_what_the_model_raised() -> None:
    model = Model()

    async def run() -> list[list[float] | type[BaseException]]:
        own = batcher(model)
        wide = np.zeros((1, 2), dtype=np.float32)
        return await outcomes(*(own.predict(x) for x in (rows(1), rows(2, POISON), rows(3), wide, rows(4))))

    assert asyncio.run(run()) == [[2], ValueError, [6], [0], [8]]


@pytest.mark.parametrize(
    "answer", [lambda x: x[:1, 0], lambda x: next(iter(())), lambda x: exec("raise SystemExit(3)")]
)
def test_a_model_that_breaks_its_promise_is_an_error_of_the_engine_not_the_end_of_the_process(
    answer: Callable[[Float32], Float32],
) -> None:
    async def run() -> None:
        own = batcher(answer)
        with pytest.raises(EngineError, match="model 'small'"):
            await own.predict(rows(1, 2))

    asyncio.run(run())


def test_who_comes_to_a_full_queue_is_refused_at_once_and_those_in_it_are_answered() -> None:
    model = Model()
    model.gate.clear()

    async def run() -> None:
        own = batcher(model, most_waiting=8)
        first = asyncio.ensure_future(own.predict(rows(0)))
        await until(lambda: model.inside == 1)
        queue = [asyncio.ensure_future(own.predict(rows(i))) for i in range(8)]
        await until(lambda: own.waiting == 8)
        with pytest.raises(Unavailable, match="most_waiting=8") as refused:
            await own.predict(rows(9))
        assert refused.value.http_status == 503
        model.gate.set()
        assert await outcomes(first, *queue) == [[0], *([2 * i] for i in range(8))]

    asyncio.run(run())


def test_who_is_out_of_time_fails_then_and_is_not_computed() -> None:
    model = Model()
    model.gate.clear()

    async def run() -> None:
        own = batcher(model)
        computed = asyncio.ensure_future(own.predict(rows(1), within_s=0.3))
        await until(lambda: model.inside == 1)
        waiting = asyncio.ensure_future(own.predict(rows(2), within_s=0.3))
        patient = asyncio.ensure_future(own.predict(rows(3), within_s=60))
        assert await outcomes(computed, waiting) == [Late, Late]
        assert model.inside == 1
        model.gate.set()
        assert await outcomes(patient) == [[6]]

    asyncio.run(run())
    assert model.seen == [1, 3]
    assert Late.http_status == 504


def test_a_model_that_does_not_come_back_is_unavailable_until_it_does() -> None:
    model = Model()
    model.gate.clear()

    async def run() -> None:
        own = batcher(model, timeout_s=0.05)
        computed = [asyncio.ensure_future(own.predict(rows(i))) for i in range(2)]
        await until(lambda: model.inside == 1)
        waiting = asyncio.ensure_future(own.predict(rows(2)))
        assert await outcomes(*computed, waiting, own.predict(rows(3))) == [Late, Late, Unavailable, Unavailable]
        assert await outcomes(own.predict(rows(4))) == [Unavailable]
        assert model.most_inside == 1
        model.gate.set()
        await until(lambda: not model.inside)
        async with asyncio.timeout(10):
            while await outcomes(own.predict(rows(5))) != [[10]]:
                await asyncio.sleep(0.001)

    asyncio.run(run())


def test_a_model_s_own_time_out_fails_those_in_the_batch_without_another_try() -> None:
    tried = 0

    def slow(x: Float32) -> Float32:
        nonlocal tried
        tried += 1
        raise TimeoutError

    async def run() -> list[list[float] | type[BaseException]]:
        own = batcher(slow)
        return await outcomes(own.predict(rows(1)), own.predict(rows(2)))

    assert asyncio.run(run()) == [Late, Late]
    assert tried == 1


def test_as_many_batches_run_at_once_as_may() -> None:
    model = Model()
    model.gate.clear()

    async def run() -> list[list[float] | type[BaseException]]:
        own = batcher(model, most_rows=1, concurrency=2)
        asked = [asyncio.ensure_future(own.predict(rows(i))) for i in range(4)]
        await until(lambda: model.inside == 2 and own.waiting == 2)
        model.gate.set()
        return await outcomes(*asked)

    assert asyncio.run(run()) == [[0], [2], [4], [6]]
    assert model.most_inside == 2


def test_a_batcher_that_nobody_holds_leaves_no_thread() -> None:
    def threads() -> int:
        return sum(thread.name.startswith("batches of small") for thread in threading.enumerate())

    async def run() -> None:
        await batcher(Model()).predict(rows(1))
        gc.collect()
        await until(lambda: threads() == 0)

    asyncio.run(run())


def test_an_answered_request_is_forgotten() -> None:
    async def run() -> None:
        own = batcher(lambda x: 2 * x[:, 0])
        x = rows(1)
        kept = weakref.ref(x)
        assert (await own.predict(x)).tolist() == [2]
        del x
        await until(lambda: kept() is None)

    asyncio.run(run())


def test_100_000_answers_reach_their_callers_among_poison_and_callers_that_leave() -> None:
    seed = time.time_ns()
    found: Counter[str] = Counter()

    async def caller(own: Batcher, number: int) -> None:
        random = Random(seed + number)
        for i in range(400):
            x = rows(*(1_000 * number + i + part / 4 for part in range(random.randint(1, 3))))
            if random.random() < 0.002:
                x[-1] = POISON
            call = asyncio.ensure_future(own.predict(x))
            if random.random() < 0.05:
                await asyncio.sleep(random.choice([0, 0.0001]))
                call.cancel()
            try:
                found["own" if np.array_equal(await call, 2 * x[:, 0]) else "another's"] += 1
            except asyncio.CancelledError:
                found["left"] += 1
            except ValueError:
                found["poison" if POISON in x else "hurt"] += 1

    async def run() -> Batcher:
        own = batcher(Model(), most_rows=128)
        await asyncio.gather(*(caller(own, number) for number in range(250)))
        return own

    own = asyncio.run(run())
    assert own.waiting == 0
    assert sum(found.values()) == 100_000, f"seed {seed}"
    assert set(found) == {"own", "left", "poison"}, f"seed {seed}: {found}"
