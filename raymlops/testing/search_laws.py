"""The laws of a search: points lie in the space, equal arguments give equal points, and it can be stopped anywhere."""

from collections.abc import Mapping, Sequence

from raymlops.protocols import Search
from raymlops.values import Coordinate, Dimension, Told

__all__ = ["check_search"]

_SPACE: Mapping[str, Dimension] = {
    "rate": Dimension(),
    "depth": Dimension(size=7),
    "kind": Dimension(size=3, ordered=False),
}


def check_search(search: Search, *, generations: int = 4, width: int = 5) -> None:
    """Raise AssertionError unless the search keeps every law over some generations, failures among them."""
    assert isinstance(search, Search)
    first = _run(search, generations, width, seed=1)
    for point in first:
        assert set(point) == set(_SPACE), "a point has a coordinate in every dimension"
        for name, at in point.items():
            size = _SPACE[name].size
            if size is None:
                assert isinstance(at, float), "a coordinate without a size is a float"
                assert 0 <= at <= 1, "it lies in [0, 1]"
            else:
                assert isinstance(at, int), "a coordinate of a size is an int"
                assert 0 <= at < size, "it is counted from 0"
    assert first == _run(search, generations, width, seed=1), "equal arguments give equal points"
    assert first[: 2 * width] == _run(search, 2, width, seed=1), "more generations leave the first ones as they were"
    assert search.propose({}, [], start=0, count=1, seed=1) == [{}], "a space without dimensions has one point"
    if not search.looks_back():
        whole = search.propose(_SPACE, [], start=0, count=generations * width, seed=1)
        assert list(whole) == first, "without looking back, points do not depend on how they are asked for"


def _run(search: Search, generations: int, width: int, *, seed: int) -> list[dict[str, Coordinate]]:
    told: list[Told] = []
    for _ in range(generations):
        points: Sequence[dict[str, Coordinate]] = search.propose(_SPACE, told, start=len(told), count=width, seed=seed)
        told += [Told(point=point, loss=_loss(point, number)) for number, point in enumerate(points)]
    return [one.point for one in told]


def _loss(point: Mapping[str, Coordinate], number: int) -> float | None:
    return None if number == 3 else (float(point["rate"]) - 0.3) ** 2 + abs(point["depth"] - 4)
