"""The registry under many hands and with many versions.

    python benchmarks/registry.py [--quick] [--json]

Sixteen processes promote one of two versions, round after round, each if the champion is still the one that all of them
saw: exactly one may win a round, and the journal must be one line after another. Then a model gets 10,000 versions,
written into MLflow's tables as MLflow does, and is read by us and by MLflow's own client. The registry is SQLite.
"""

import multiprocessing
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from itertools import pairwise
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median
from typing import Any

from line import Line, arguments, print_lines

from raymlops import registry
from raymlops.errors import Conflict
from raymlops.registry.mlflow_client import client


def main() -> int:
    """Measure and print; exit 1 when a bar is missed."""
    given = arguments(__doc__, quick="20 rounds and 1,000 versions, not 200 and 10,000")
    with tempfile.TemporaryDirectory(prefix="rmb-") as folder:
        os.environ["RAYMLOPS_HOME"] = folder
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        rounds, versions = (20, 1_000) if given.quick else (200, 10_000)
        return print_lines([*_race(16, rounds), *_many(Path(folder), versions)], as_json=given.json)


def _race(processes: int, rounds: int) -> list[Line]:
    for content in (b"1", b"2"):
        _register("race", content)
    registry.promote("race@1")
    before = len(registry.history("race"))
    context = multiprocessing.get_context("spawn")
    barrier, won = context.Barrier(processes), context.Queue()
    start = time.perf_counter()
    running = [context.Process(target=_promote, args=(barrier, won, rounds)) for _ in range(processes)]
    for process in running:
        process.start()
    wins: dict[int, int] = dict.fromkeys(range(rounds), 0)
    for _ in range(processes):
        for turn in won.get():
            wins[turn] += 1
    for process in running:
        process.join()
    taken = time.perf_counter() - start
    moves = [one for one in registry.history("race")[before:] if one.alias == "champion"]
    registry.check_aliases("race")
    linear = all(after.before == one.version for one, after in pairwise(moves)) and len(moves) == rounds
    right = sum(count == 1 for count in wins.values()) if linear else 0
    what = f"rounds in which exactly one of {processes} promotions won, {taken / rounds * 1e3:.0f} ms each; rival: all"
    return [Line(what=what, unit="rounds", ours=right, rival=rounds, ratio=right / rounds, bar=1)]


def _promote(barrier: Barrier, won: Any, rounds: int) -> None:
    wins = []
    for turn in range(rounds):
        champion = registry.resolve("race")
        barrier.wait()
        try:
            registry.promote(f"race@{3 - champion.number}", expected=str(champion), why=f"round {turn}")
            wins.append(turn)
        except Conflict:
            pass
        barrier.wait()
    won.put(wins)


def _many(folder: Path, count: int) -> list[Line]:
    version = _register("many", b"many")
    registry.promote(str(version))
    with closing(sqlite3.connect(folder / "mlflow" / "mlflow.db")) as database, database:
        for table in ("model_versions", "model_version_tags"):
            columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
            shown = ", ".join("?" if name == "version" else name for name in columns)
            more = f"INSERT INTO {table} SELECT {shown} FROM {table} WHERE name = 'many' AND version = 1"
            database.executemany(more, [(number,) for number in range(2, count + 1)])
    assert len(registry.listed("many")) == count
    ours = _median_ms(lambda: registry.resolve("many"))
    theirs = _median_ms(lambda: client().get_model_version_by_alias("many", "champion"))
    listed = _median_ms(lambda: registry.listed("many"))
    return [
        Line(what=f"the champion of {count:,} versions, its bytes verified; rival: the limit", unit="ms", ours=ours,
             rival=50, ratio=50 / ours, bar=1),
        Line(what=f"the champion of {count:,} versions; rival: MLflow's client, nothing verified", unit="ms", ours=ours,
             rival=theirs, ratio=theirs / ours, bar=0),
        Line(what=f"all {count:,} versions listed; rival: the limit", unit="ms", ours=listed, rival=50,
             ratio=50 / listed, bar=0),
    ]  # fmt: skip


def _median_ms(call: Callable[[], object]) -> float:
    taken = []
    for _ in range(21):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return median(taken[1:]) * 1e3


def _register(name: str, content: bytes) -> Any:
    digest, path = registry.store_folder({"model.json": content})
    return registry.register(name, digest=digest, path=path, run_id=None, tags={})


if __name__ == "__main__":
    sys.exit(main())
