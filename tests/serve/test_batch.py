"""The laws of a batch, for every order in which requests come, leave, are computed, raise, hang and run late."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, inf, log2
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymlops.errors import SpecError
from raymlops.serve.batch import (
    Action,
    Answer,
    Arrived,
    Batching,
    Blame,
    Compute,
    Event,
    Item,
    Left,
    Raised,
    Refuse,
    Returned,
    State,
    Tick,
    due,
    step,
)
from raymlops.serve.cost import Cost


@dataclass(frozen=True, slots=True)
class Ask:
    rows: int
    within_s: float
    poison: bool


@dataclass(frozen=True, slots=True)
class Leave:
    which: int


@dataclass(frozen=True, slots=True)
class Back:
    which: int
    timed_out: bool


@dataclass(frozen=True, slots=True)
class Coming:
    count: int


@dataclass(frozen=True, slots=True)
class Pass:
    seconds: float


Op = Ask | Leave | Back | Coming | Pass


def drawn(random: Random) -> tuple[Batching, list[tuple[Op, bool]]]:
    """Return limits, and what happens under them; the carrier ticks after an event, or not before the next one."""
    limits = Batching(
        most_rows=random.randint(1, 8),
        wait_ms=random.choice([0, 2, 10]),
        most_waiting=random.randint(8, 12),
        timeout_s=random.uniform(0.02, 0.1),
        concurrency=random.choice([1, 1, 2, 3]),
    )
    rush = random.choice([1, 3, 10])
    made: dict[type[Op], Callable[[], Op]] = {
        Ask: lambda: Ask(random.randint(0, 4), random.choice([inf, random.uniform(0, 0.1)]), random.random() < 0.1),
        Leave: lambda: Leave(random.randrange(20)),
        Back: lambda: Back(random.randrange(3), random.random() < 0.1),
        Coming: lambda: Coming(random.randint(0, 2)),
        Pass: lambda: Pass(random.choice([random.uniform(0, 0.01), random.uniform(0, 0.1)])),
    }
    kinds = random.choices(list(made), weights=[rush, 0.5, 2, 1, 1], k=80)
    return limits, [(made[kind](), random.random() < 0.5) for kind in kinds]


class World:
    """Carries out what `step` decides, on a clock of its own, and keeps its own account of every caller."""

    def __init__(self, limits: Batching) -> None:
        self.limits, self.state, self.now, self.coming = limits, State(), 0.0, 0
        self.asked: dict[int, tuple[Item, Ask]] = {}
        self.open: dict[int, None] = {}
        self.running: dict[int, tuple[float, tuple[int, ...]]] = {}
        self.tries: dict[int, int] = {}
        self.most_tries: dict[int, int] = {}
        self.back: tuple[int, ...] = ()
        self.told: list[Action] = []

    def live(self, schedule: list[tuple[Op, bool]]) -> None:
        for op, ticks in schedule:
            self.do(op)
            if ticks:
                self.tick()
        self.end()

    def do(self, op: Op) -> None:
        match op:
            case Ask():
                item = Item(id=len(self.asked), rows=op.rows, since=self.now, deadline=self.now + op.within_s)
                self.asked[item.id] = item, op
                self.open[item.id] = None
                self.tell(Arrived(item))
            case Leave() if self.open:
                gone = list(self.open)[op.which % len(self.open)]
                del self.open[gone]
                self.tell(Left(gone))
            case Back() if self.running:
                self.bring_back(list(self.running)[op.which % len(self.running)], timed_out=op.timed_out)
            case Coming():
                self.coming = op.count
            case Pass():
                self.tick()
                until = self.now + op.seconds
                while (at := due(self.state, limits=self.limits)) <= until:
                    self.now = at
                    self.tick()
                self.now, told = until, len(self.told)
                self.tick()
                assert len(self.told) == told, "when the next tick is due was said truly"

    def bring_back(self, batch: int, *, timed_out: bool = False) -> None:
        _, self.back = self.running.pop(batch)
        guilty = [item for item in self.back if self.asked[item][1].poison]
        if timed_out:
            self.tell(Raised(batch, TimeoutError()))
        elif guilty:
            self.tell(Raised(batch, ValueError(guilty[0])))
        else:
            self.tell(Returned(now=self.now, batch=batch))

    def tick(self) -> None:
        self.tell(Tick(now=self.now, coming=self.coming))
        self.check_bounds()

    def end(self) -> None:
        """Nobody comes any more and every batch comes back."""
        self.coming = 0
        self.tick()
        while self.running:
            self.bring_back(next(iter(self.running)))
            self.tick()
        assert not self.open, "each caller has exactly one outcome"
        assert (self.state.queued, self.state.computing, due(self.state, limits=self.limits)) == (0, (), inf)

    def tell(self, event: Event) -> None:
        queued = self.state.queued
        self.state, actions = step(self.state, event, limits=self.limits)
        for action in actions:
            self.told.append(action)
            match action:
                case Compute():
                    self.check_computed(action)
                case Answer():
                    self.settled(action.item)
                    rows = [(item, row) for item in self.back for row in range(self.asked[item][0].rows)]
                    own = [(action.item, row) for row in range(self.asked[action.item][0].rows)]
                    assert rows[action.rows] == own, "answer i belongs to caller i"
                    assert not self.asked[action.item][1].poison
                case Blame():
                    self.settled(action.item)
                    assert self.asked[action.item][1].poison
                    assert action.error.args == (action.item,)
                case Refuse():
                    self.settled(action.item)
                    assert self.reason_holds(action, event, queued=queued)
        assert self.state.queued <= max(queued, self.limits.most_waiting) or isinstance(event, Raised)

    def settled(self, item: int) -> None:
        assert item in self.open, "nobody is told twice, and nobody who has left"
        del self.open[item]

    def reason_holds(self, action: Refuse, event: Event, *, queued: int) -> bool:
        overdue = [self.now >= since + self.limits.timeout_s for since, _ in self.running.values()]
        timed_out = isinstance(event, Raised) and isinstance(event.error, TimeoutError)
        holds = {
            "full": queued >= self.limits.most_waiting,
            "late": self.asked[action.item][0].deadline <= self.now,
            "slow": any(overdue) or (timed_out and action.item in self.back),
            "stuck": len(overdue) == self.limits.concurrency and all(overdue),
        }
        return holds[action.why]

    def check_computed(self, action: Compute) -> None:
        assert len(self.running) < self.limits.concurrency
        self.running[action.batch] = self.now, action.items
        items = [self.asked[item][0] for item in action.items]
        assert len(items) == 1 or sum(item.rows for item in items) <= self.limits.most_rows
        assert all(item.id in self.open for item in items), "who has left or was told is not computed"
        assert all(item.deadline > self.now for item in items)
        new = [item.id for item in items if item.id not in self.tries]
        assert new in ([], sorted(action.items)), "what raised is computed apart from what has not been tried"
        assert all(other < item for other in self.tries for item in new), "first come, first computed"
        for item in items:
            # Halving a batch of n separates any of its items after log2(n) more computations.
            self.most_tries.setdefault(item.id, 1 + ceil(log2(len(items))))
            self.tries[item.id] = self.tries.get(item.id, 0) + 1
            assert self.tries[item.id] <= self.most_tries[item.id]

    def check_bounds(self) -> None:
        """See that right after a tick nobody waits for something that will not come."""
        limits, now = self.limits, self.now
        assert due(self.state, limits=limits) > now
        assert all(self.asked[item][0].deadline > now for item in self.open)
        overdue = [items for since, items in self.running.values() if since + limits.timeout_s <= now]
        assert not any(item in self.open for items in overdue for item in items)
        if len(overdue) == limits.concurrency:
            assert not self.open
        computing = {item for _, items in self.running.values() for item in items}
        held = [self.asked[item][0] for item in self.open if item not in computing]
        if held and len(self.running) < limits.concurrency:
            rows = sum(item.rows for item in held)
            assert self.coming > 0
            assert rows < limits.most_rows
            assert not any(item.id in self.tries for item in held)
            assert min(item.since for item in held) + limits.wait_ms / 1e3 > now
            assert min(item.deadline for item in held) - self.state.cost.of(rows) > now


def test_every_caller_gets_its_own_answer_or_one_reason_within_its_bound_whatever_happens() -> None:
    reached: Counter[str] = Counter()
    for seed in range(3_000):
        limits, schedule = drawn(Random(seed))
        world = World(limits)
        try:
            world.live(schedule)
        except Exception as error:
            error.add_note(f"seed {seed}: {limits}, {schedule}")
            raise
        reached.update(one.why if isinstance(one, Refuse) else type(one).__name__ for one in world.told)

    # A law says nothing about what never happens.
    assert min(reached[kind] for kind in ("Answer", "Blame", "full", "late", "slow", "stuck")) > 1_000


LIMIT = Batching(most_rows=4, wait_ms=10, most_waiting=100, timeout_s=1)


def told(*events: Event, limits: Batching = LIMIT, state: State | None = None) -> tuple[State, tuple[Action, ...]]:
    """Return the state after these events, and what was to be done after the last."""
    state = state or State()
    actions: tuple[Action, ...] = ()
    for event in events:
        state, actions = step(state, event, limits=limits)
    return state, actions


def item(id: int, *, rows: int = 1, since: float = 0.0, deadline: float = inf) -> Arrived:
    return Arrived(Item(id=id, rows=rows, since=since, deadline=deadline))


@pytest.mark.parametrize(
    ("arrived", "tick", "items"),
    [
        pytest.param([item(0)], Tick(now=0.0, coming=1), (), id="held while another is read"),
        pytest.param([item(0)], Tick(now=0.0, coming=0), (0,), id="nothing more is coming"),
        pytest.param([item(0)], Tick(now=0.01, coming=1), (0,), id="waited long enough"),
        pytest.param([item(0, rows=2), item(1, rows=2)], Tick(now=0.0, coming=1), (0, 1), id="full"),
        pytest.param([item(0, rows=2), item(1, rows=3)], Tick(now=0.0, coming=1), (0,), id="the next does not fit"),
        pytest.param([item(0, rows=9), item(1)], Tick(now=0.0, coming=1), (0,), id="over the limit goes alone"),
        pytest.param([item(0, deadline=0.006)], Tick(now=0.0, coming=1), (), id="time enough to its deadline"),
        pytest.param([item(0, deadline=0.006)], Tick(now=0.0011, coming=1), (0,), id="just time to compute it"),
        pytest.param([item(0), item(1, deadline=0.006)], Tick(now=0.0011, coming=1), (0, 1), id="of any of them"),
        pytest.param([item(0, deadline=0.001)], Tick(now=0.001, coming=1), (), id="past its deadline"),
    ],
)
def test_when_a_batch_closes(arrived: list[Event], tick: Tick, items: tuple[int, ...]) -> None:
    state = State(cost=Cost().after(1, 0.005))

    _, actions = told(*arrived, tick, state=state)

    assert tuple(i for action in actions if isinstance(action, Compute) for i in action.items) == items


def test_by_default_each_request_goes_alone() -> None:
    _, actions = told(item(0), item(1), Tick(now=0.0, coming=5), limits=Batching())

    assert actions == (Compute(0, (0,)),)


def test_a_full_batch_that_nothing_else_can_join_waits_for_the_one_before_it() -> None:
    full = tuple(item(i) for i in range(8))
    state, first = told(*full, Tick(now=0.0, coming=0))
    state, none = told(Tick(now=0.5, coming=0), state=state)
    _, second = told(Returned(now=0.6, batch=0), Tick(now=0.6, coming=0), state=state)

    assert (first, none, second) == ((Compute(0, (0, 1, 2, 3)),), (), (Compute(1, (4, 5, 6, 7)),))


@pytest.mark.parametrize("guilty", [{5}, {0, 63}, set(range(64))], ids=["one", "two", "all"])
def test_the_guilty_of_a_batch_are_found_in_few_computations(guilty: set[int]) -> None:
    world = World(Batching(most_rows=64))
    for i in range(64):
        world.do(Ask(rows=1, within_s=inf, poison=i in guilty))
    world.end()

    blamed = {action.item for action in world.told if isinstance(action, Blame)}
    computations = sum(isinstance(action, Compute) for action in world.told)
    assert blamed == guilty
    assert computations <= min(1 + 2 * 6 * len(guilty), 2 * 64 - 1)


def test_one_that_is_left_of_two_is_not_blamed_for_the_other() -> None:
    state, _ = told(item(0), item(1), Tick(now=0.0, coming=0), Left(1))
    _, actions = told(Raised(0, ValueError("one of the two")), Tick(now=0.0, coming=0), state=state)

    assert actions == (Compute(1, (0,)),)


def test_a_model_that_comes_back_late_answers_again() -> None:
    state, refused = told(item(0), Tick(now=0.0, coming=0), item(1), Tick(now=1.0, coming=0))
    state, still = told(item(2), Tick(now=1.5, coming=0), state=state)
    _, again = told(Returned(now=2.0, batch=0), item(3), Tick(now=2.0, coming=0), state=state)

    assert set(refused) == {Refuse(0, "slow"), Refuse(1, "stuck")}
    assert still == (Refuse(2, "stuck"),)
    assert again == (Compute(1, (3,)),)


def test_a_queue_too_short_for_a_batch_is_refused() -> None:
    with pytest.raises(SpecError, match=r"most_waiting: 5 is below most_rows=6"):
        Batching(most_rows=6, most_waiting=5)


def test_a_batch_is_expected_to_take_what_one_of_as_many_rows_took() -> None:
    state, _ = told(item(0, rows=3), Tick(now=0.0, coming=0), Returned(now=0.25, batch=0))

    assert [state.cost.of(rows) for rows in (1, 3, 6)] == [0.25, 0.25, 0.5]


def test_a_slow_first_batch_is_soon_forgotten() -> None:
    cost = Cost().after(1, 10.0)
    for _ in range(50):
        cost = cost.after(1, 0.005)

    assert cost.of(1) == pytest.approx(0.005, abs=0.01)


@given(st.floats(0, 0.1), st.floats(0, 0.01), st.lists(st.integers(1, 1_000), min_size=2, max_size=30, unique=True))
def test_the_cost_of_any_batch_is_learnt_from_some(start: float, slope: float, sizes: list[int]) -> None:
    cost = Cost()
    for rows in sizes:
        cost = cost.after(rows, start + slope * rows)

    assert cost.of(500) == pytest.approx(start + slope * 500, rel=1e-3, abs=1e-6)


@given(st.lists(st.tuples(st.integers(0, 10_000), st.floats(0, 100)), max_size=30), st.integers(0, 10_000))
def test_a_cost_is_never_negative_and_never_above_proportion(batches: list[tuple[int, float]], rows: int) -> None:
    cost = Cost()
    for size, seconds in batches:
        cost = cost.after(size, seconds)

    slowest = max((seconds for _, seconds in batches), default=0.0)
    least = min((size for size, _ in batches if size), default=1)
    assert -1e-9 <= cost.of(rows) <= slowest * max(1, rows / least) * (1 + 1e-6) + 1e-9
