"""When requests become a batch, and what becomes of each: pure decisions over arrivals, departures, answers and time.

`step(state, event)` gives the next state and what to do. It knows no asyncio, no thread, no array, and no clock but the
event's. News (a request, a leaver, a batch that is back) is only taken note of; what is closed, late or stuck is
decided at a `Tick`. Whoever carries this out ticks once after all news that came together, and when `due` says.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import accumulate
from math import inf
from typing import Annotated, Literal

from pydantic import Field

from raymlops.errors import SpecError
from raymlops.serve.cost import Cost

__all__ = [
    "Action",
    "Answer",
    "Arrived",
    "Batch",
    "Batching",
    "Blame",
    "Compute",
    "Event",
    "Item",
    "Left",
    "Raised",
    "Refuse",
    "Returned",
    "State",
    "Tick",
    "Why",
    "due",
    "step",
]

Why = Literal["full", "late", "slow", "stuck"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batching:
    """How requests of one model are put together; as it stands, they are not: one row fills a batch.

    ``most_rows``: rows of a batch; a request that holds more goes alone. ``wait_ms``: longest that a request is held
    back for others that are being read. ``most_waiting``: requests that may wait for a batch, the next is refused.
    ``timeout_s``: longest computation of a batch. ``concurrency``: batches computed at once.
    """

    most_rows: Annotated[int, Field(ge=1)] = 1
    wait_ms: Annotated[float, Field(ge=0)] = 2.0
    most_waiting: Annotated[int, Field(ge=1)] = 1_000
    timeout_s: Annotated[float, Field(gt=0)] = 30.0
    concurrency: Annotated[int, Field(ge=1)] = 1

    def __post_init__(self) -> None:
        if self.most_waiting < self.most_rows:
            raise SpecError(
                f"batching.most_waiting: {self.most_waiting!r} is below most_rows={self.most_rows!r}; "
                "a batch of requests of one row could never fill"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A request: its rows, when it came, and by when it must be answered. ``first`` is its first row in its batch."""

    id: int
    rows: int
    since: float
    deadline: float = inf
    first: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What is being computed: how many items and rows it began with, and the items whose callers still wait."""

    number: int
    since: float
    size: int
    rows: int
    items: tuple[Item, ...]
    stuck: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Items in the order they came, parts of batches that raised (they go first), batches under way, and their cost."""

    waiting: tuple[Item, ...] = ()
    again: tuple[tuple[Item, ...], ...] = ()
    computing: tuple[Batch, ...] = ()
    cost: Cost = field(default_factory=Cost)
    batches: int = 0

    @property
    def queued(self) -> int:
        """How many items wait to be computed."""
        return len(self.waiting) + sum(map(len, self.again))


@dataclass(frozen=True, slots=True)
class Arrived:
    """A request is here, whole."""

    item: Item


@dataclass(frozen=True, slots=True)
class Left:
    """The caller of an item no longer wants its answer."""

    item: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    """A batch is computed: one answer for each of its rows."""

    now: float
    batch: int


@dataclass(frozen=True, slots=True)
class Raised:
    """A batch raised; TimeoutError says nothing about any of its items."""

    batch: int
    error: Exception


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """All news has been told; `coming` is the number of requests that are still being read."""

    now: float
    coming: int


Event = Arrived | Left | Returned | Raised | Tick


@dataclass(frozen=True, slots=True)
class Compute:
    """Compute these items, their rows one after the other, and tell when they are back."""

    batch: int
    items: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """These rows of the answers that have just come back belong to this item."""

    item: int
    rows: slice


@dataclass(frozen=True, slots=True)
class Blame:
    """The model raised this for this item, computed alone."""

    item: int
    error: Exception


@dataclass(frozen=True, slots=True)
class Refuse:
    """The item gets no answer.

    `full`: too many wait. `late`: its deadline is past. `slow`: its batch took longer than `timeout_s`. `stuck`: every
    batch under way has, so that it is unknown when another can begin.
    """

    item: int
    why: Why


Action = Compute | Answer | Blame | Refuse


def step(state: State, event: Event, *, limits: Batching) -> tuple[State, tuple[Action, ...]]:
    """Return the next state and what is to be done, in this order.

    Each item that arrived is, once, answered, blamed or refused, or it leaves.
    """
    match event:
        case Arrived():
            if state.queued >= limits.most_waiting:
                return state, (Refuse(event.item.id, "full"),)
            return replace(state, waiting=(*state.waiting, event.item)), ()
        case Left():
            return _without(state, {event.item}), ()
        case Returned():
            return _returned(state, event)
        case Raised():
            return _raised(state, event)
        case Tick():
            return _ticked(state, event, limits)


def _without(state: State, gone: set[int]) -> State:
    def stay(items: tuple[Item, ...]) -> tuple[Item, ...]:
        return tuple(item for item in items if item.id not in gone)

    return replace(
        state,
        waiting=stay(state.waiting),
        again=tuple(left for part in state.again if (left := stay(part))),
        computing=tuple(replace(batch, items=stay(batch.items)) for batch in state.computing),
    )


def _returned(state: State, event: Returned) -> tuple[State, tuple[Action, ...]]:
    batch, state = _taken(state, event.batch)
    cost = state.cost.after(batch.rows, event.now - batch.since)
    answers = tuple(Answer(item.id, slice(item.first, item.first + item.rows)) for item in batch.items)
    return replace(state, cost=cost), answers


def _raised(state: State, event: Raised) -> tuple[State, tuple[Action, ...]]:
    # Halved until the guilty stand alone: of n items, k are found with about 2 k log2(n) computations, at most 2 n - 1.
    batch, state = _taken(state, event.batch)
    if isinstance(event.error, TimeoutError):
        return state, tuple(Refuse(item.id, "slow") for item in batch.items)
    # Not by how many are left: of two, the one whose caller has gone may have been the guilty one.
    if batch.size == 1:
        return state, tuple(Blame(item.id, event.error) for item in batch.items)
    middle = len(batch.items) // 2
    halves = (batch.items[:middle], batch.items[middle:])
    return replace(state, again=(*filter(None, halves), *state.again)), ()


def _taken(state: State, number: int) -> tuple[Batch, State]:
    (batch,) = (batch for batch in state.computing if batch.number == number)
    return batch, replace(state, computing=tuple(other for other in state.computing if other is not batch))


def _ticked(state: State, event: Tick, limits: Batching) -> tuple[State, tuple[Action, ...]]:
    state, refused = _refused(state, event.now, limits)
    begun: list[Action] = []
    while len(state.computing) < limits.concurrency and (items := _ripe(state, event, limits)):
        state, action = _begun(state, items, event.now)
        begun.append(action)
    return state, (*refused, *begun)


def _refused(state: State, now: float, limits: Batching) -> tuple[State, tuple[Action, ...]]:
    why: dict[int, Why] = {}
    computing = tuple(replace(batch, stuck=batch.since + limits.timeout_s <= now) for batch in state.computing)
    if sum(batch.stuck for batch in computing) == limits.concurrency:
        why |= dict.fromkeys((item.id for item in _queue(state)), "stuck")
    why |= {item.id: "slow" for batch in computing if batch.stuck for item in batch.items}
    why |= {item.id: "late" for item in _items(state) if item.deadline <= now}
    state = replace(state, computing=computing)
    return (_without(state, set(why)) if why else state), tuple(Refuse(item, reason) for item, reason in why.items())


def _ripe(state: State, event: Tick, limits: Batching) -> tuple[Item, ...]:
    """Return the items of the batch that should begin now, none if it is better to wait."""
    if state.again:
        return state.again[0]
    items = _front(state.waiting, limits.most_rows)
    full = len(items) < len(state.waiting) or _rows(items) >= limits.most_rows
    return items if full or event.coming == 0 or _closing(items, state.cost, limits) <= event.now else ()


def _front(waiting: tuple[Item, ...], most: int) -> tuple[Item, ...]:
    ends = accumulate(item.rows for item in waiting)
    return waiting[: max(1, sum(end <= most for end in ends))]


def _rows(items: Iterable[Item]) -> int:
    return sum(item.rows for item in items)


def _closing(items: tuple[Item, ...], cost: Cost, limits: Batching) -> float:
    """Return when a batch that is not full should begin, if others keep coming."""
    if not items:
        return inf
    latest = min(item.deadline for item in items) - cost.of(_rows(items))
    return min(items[0].since + limits.wait_ms / 1e3, latest)


def _begun(state: State, items: tuple[Item, ...], now: float) -> tuple[State, Compute]:
    ends = tuple(accumulate(item.rows for item in items))
    placed = tuple(replace(item, first=end - item.rows) for item, end in zip(items, ends, strict=True))
    batch = Batch(number=state.batches, since=now, size=len(items), rows=ends[-1], items=placed)
    again, waiting = (state.again[1:], state.waiting) if state.again else ((), state.waiting[len(items) :])
    computing = (*state.computing, batch)
    after = replace(state, waiting=waiting, again=again, computing=computing, batches=state.batches + 1)
    return after, Compute(batch.number, tuple(item.id for item in items))


def due(state: State, *, limits: Batching) -> float:
    """Return when the next tick is needed if there is no news until then, infinity if none is."""
    times = [item.deadline for item in _items(state)]
    times += [batch.since + limits.timeout_s for batch in state.computing if not batch.stuck]
    if len(state.computing) < limits.concurrency:
        times.append(_closing(state.waiting, state.cost, limits))
    return min(times, default=inf)


def _queue(state: State) -> tuple[Item, ...]:
    return (*state.waiting, *(item for part in state.again for item in part))


def _items(state: State) -> tuple[Item, ...]:
    return (*_queue(state), *(item for batch in state.computing for item in batch.items))
