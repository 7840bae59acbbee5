"""Batch scoring against a tuned loop, Ray Data as its documentation shows it, Spark, Dask and Polars, in one run.

    python benchmarks/score.py [--quick] [--long] [--only PART …] [--json]

10 million rows of 28 float32 features in 40 Parquet files, 100 trees of depth 6, two cores. The floor is one process
without a contract, accounts or a manifest: pyarrow reads a file, `inplace_predict` runs on C-order float32 with both
cores, the answers are written. "After start" counts from a connected cluster, a session that is up, or a loaded model,
with the driver's modules imported; "whole command" from the shell to its end, with a cluster or a session of its own.
Rounds are interleaved; the numbers are medians. All contestants of a line answer the same rows, and their answers are
compared before a line is printed. A bar of 0 is a number that is told and promises nothing.

The rivals' packages come into `benchmarks/.rivals/` by pip, once; Spark needs Java. Parts: speed, spark, again, memory,
resume, nodes, driver, network; with `--long` also long: ten times the rows, the same files listed ten times over.
"""

import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import score_nodes
from line import Line, parser, print_lines
from score_runs import (
    Measures,
    NotMeasured,
    check_answers,
    command,
    floor,
    ours,
    program,
    recorded,
    resumed,
    rival,
    rounds,
)
from score_work import Part, Work, forget, new_work

from raymlops import cluster

_GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is done: a tenth of ``files`` is ``small``; ``pieces`` of one row show the driver's own time."""

    files: int = 40
    rows: int = 250_000
    small: int = 4
    rounds: int = 3
    pieces: int = 10_000
    tasks: int = 1_000


FULL = Size()
QUICK = Size(files=8, rows=125_000, small=2, rounds=1, pieces=1_000, tasks=100)
TINY = Size(files=12, rows=2_000, small=2, rounds=1, pieces=50, tasks=20)


def main() -> int:
    """Measure and print; exit 1 when a bar is missed."""
    words = parser(__doc__, quick="1 million rows in 8 files and one round; not 10 million in 40, three rounds")
    words.add_argument("--long", action="store_true", help="also ten times the rows")
    words.add_argument("--only", nargs="+", metavar="PART", choices=PARTS, help="only these parts")
    words.add_argument("--tiny", action="store_true", help="24 thousand rows: no measure, but all of it runs")
    given = words.parse_args()
    size = TINY if given.tiny else QUICK if given.quick else FULL
    wanted = given.only or [name for name in PARTS if name != "long" or given.long]
    missed = 0
    with tempfile.TemporaryDirectory(prefix="rmb-") as name:
        work = new_work(Path(name), files=size.files, rows=size.rows)
        for part in wanted:
            try:
                missed |= print_lines(PARTS[part](work, size), as_json=given.json)
            except NotMeasured as error:
                missed = 1
                print(f"{part}: could not be measured: {error}", file=sys.stderr)
    return missed


def _speed(work: Work, size: Size) -> list[Line]:
    part, trees = work.part(), work.trees
    rivals = {
        "floor": lambda: floor("floor", trees, part, work.out("floor")),
        "documented": lambda: program("score_ours.py", "documented", trees, part.rows, work.out("documented")),
        "polars": lambda: rival("polars", trees, part, work.out("polars")),
        "dask": lambda: rival("dask", trees, part, work.out("dask")),
    }
    bars = [
        ("the floor", "floor", {"seconds": 0.85, "whole": 0.6}),
        ("Ray Data as documented", "documented", {"seconds": 2.5}),
        ("Dask", "dask", {"seconds": 0.0, "whole": 0.0}),
        ("Polars", "polars", {"seconds": 0.0, "whole": 0.0}),
    ]
    taken = _beside(part, rivals, size)
    check_answers([work.folder / "out" / name for name in rivals])
    return _rates(part, taken, bars)


def _spark(work: Work, size: Size) -> list[Line]:
    part, name, bars = work.part(), "mlflow's Spark UDF", {"seconds": 5.0, "whole": 5.0}
    if shutil.which("java") is None:
        return _rates(part, _beside(part, {}, size), [(f"{name}, not measured: there is no java", "spark", bars)])
    model = work.out("mlflow") / "model"
    rival("mlflow", work.trees, part, model)
    taken = _beside(part, {"spark": lambda: rival("spark", model, part, work.out("spark"))}, size)
    check_answers([work.folder / "out" / "spark"])
    return _rates(part, taken, [(name, "spark", bars)])


def _beside(part: Part, rivals: Mapping[str, Callable[[], Measures]], size: Size) -> dict[str, Measures]:
    """Run raymlops after start and as a command beside its rivals."""
    return rounds({"ours": lambda: ours(part), "command": lambda: command(part), **rivals}, size.rounds)


def _rates(part: Part, taken: Mapping[str, Measures], bars: Sequence[tuple[str, str, Measures]]) -> list[Line]:
    """Return a line for each bar of each rival; one that was not measured has a rate of 0 and misses."""
    first = {"seconds": taken["ours"]["seconds"], "whole": taken["command"]["whole"]}
    return [
        _more(f"{part.total:,} rows × 28, 100 trees, {clock}; rival: {words}", "rows/s", part.total / first[measure],
              part.total / taken[name][measure] if name in taken else 0.0, asked[measure])
        for measure, clock in (("seconds", "after start"), ("whole", "whole command"))
        for words, name, asked in bars
        if measure in asked
    ]  # fmt: skip


def _again(work: Work, size: Size) -> list[Line]:
    part = work.part()
    command(part)
    before = recorded()
    taken = rounds({"again": lambda: command(part, fresh=False)}, size.rounds)["again"]["whole"]
    if recorded() != before:
        raise NotMeasured("a finished run was scored again")
    return [_less("a finished run again, whole command; rival: the limit", "s", taken, 2.0)]


def _memory(work: Work, size: Size) -> list[Line]:
    small, large = work.part(size.small), work.part()
    calls = {"small": lambda: ours(small, role="memory"), "large": lambda: ours(large, role="memory")}
    taken = {name: measures["bytes"] / _GIB for name, measures in rounds(calls, size.rounds).items()}
    what = f"peak memory of driver and cluster at {large.total:,} rows"
    return [
        _less(f"{what}; rival: 1.1 × that at {small.total:,}", "GiB", taken["large"], 1.1 * taken["small"]),
        _less(f"{what}; rival: the limit", "GiB", taken["large"], 2.5),
    ]


def _resume(work: Work, size: Size) -> list[Line]:
    part = work.part()
    running = cluster.start(cpus=2)
    try:
        taken = rounds({"full": lambda: ours(part), "resumed": lambda: resumed(part, share=0.9)}, size.rounds)
    finally:
        cluster.stop(running)
    full, left = taken["full"]["seconds"], taken["resumed"]["left"]
    what = f"{part.total:,} rows killed at 90 %, {left:.0f} of {part.files} pieces left, resumed, after start"
    return [_less(f"{what}; rival: 15 % of an unbroken run", "s", taken["resumed"]["seconds"], 0.15 * full)]


def _nodes(work: Work, _size: Size) -> list[Line]:
    part = work.part()
    spec, variables = score_nodes.noted(work.folder, part)
    forget()
    read = program("score_nodes.py", spec, **variables)
    first, second = score_nodes.CPUS
    what = f"two nodes of {first} and {second} CPUs, {part.files} pieces: share of the second; rival: of its CPUs"
    return [_more(what, "of 1", read["second"] / (read["first"] + read["second"]), second / (first + second), 0.0)]


def _driver(work: Work, size: Size) -> list[Line]:
    part = work.of_one_row().part(size.pieces)
    calls = {
        "ours": lambda: ours(part, role="driver"),
        "plain": lambda: program("score_ours.py", "plain", size.tasks),
        "tasks": lambda: program("score_ours.py", "tasks", size.tasks),
    }
    taken = rounds(calls, size.rounds)
    cpu = {name: 1e3 * taken[name]["cpu"] / taken[name]["pieces"] for name in calls}
    what = f"driver's own CPU a piece, {size.pieces:,} pieces without Ray"
    tasks = f"that of {size.tasks:,} empty tasks of"
    return [
        _less(f"{what}; rival: the limit", "ms", cpu["ours"], 1.0),
        _less(f"{what}; rival: {tasks} Ray", "ms", cpu["ours"], cpu["plain"], 0.0),
        _less(f"{what}; rival: {tasks} Ray Data", "ms", cpu["ours"], cpu["tasks"], 0.0),
    ]


def _network(work: Work, size: Size) -> list[Line]:
    part = work.part(model="network")
    calls = {
        "ours": lambda: ours(part),
        "floor": lambda: floor("network-floor", work.network, part, work.out("network-floor")),
    }
    taken = rounds(calls, size.rounds)
    check_answers([work.folder / "out" / "network-floor"])
    what = f"{part.total:,} rows × 28, network in int8, after start; rival: its floor, one session of ONNX Runtime"
    rates = [part.total / taken[name]["seconds"] for name in calls]
    return [_more(what, "rows/s", rates[0], rates[1], 0.85)]


def _long(work: Work, size: Size) -> list[Line]:
    large, longer = work.part(), work.part(10 * size.files)
    needed, free = longer.total * 40, shutil.disk_usage(work.folder).free
    if free < needed:
        raise NotMeasured(f"{work.folder}: {free / _GIB:.0f} GiB are free, the answers need {needed / _GIB:.0f}")
    taken = rounds({"longer": lambda: ours(longer), "large": lambda: ours(large)}, size.rounds)
    rates = [part.total / taken[name]["seconds"] for name, part in (("longer", longer), ("large", large))]
    what = f"{longer.total:,} rows, {longer.files} links to {large.files} files, after start"
    return [_more(f"{what}; rival: ours at {large.total:,}", "rows/s", rates[0], rates[1], 0.95)]


def _more(what: str, unit: str, ours: float, rival: float, bar: float) -> Line:
    return Line(what=what, unit=unit, ours=ours, rival=rival, ratio=ours / rival if rival else 0.0, bar=bar)


def _less(what: str, unit: str, ours: float, rival: float, bar: float = 1.0) -> Line:
    return Line(what=what, unit=unit, ours=ours, rival=rival, ratio=rival / ours, bar=bar)


PARTS: dict[str, Callable[[Work, Size], list[Line]]] = {
    "speed": _speed, "spark": _spark, "again": _again, "memory": _memory, "resume": _resume, "nodes": _nodes,
    "driver": _driver, "network": _network, "long": _long,
}  # fmt: skip

if __name__ == "__main__":
    sys.exit(main())
