"""From a command to a running, failed or skipped stage: ours against the `ray job submit` command, on one cluster.

    python benchmarks/submit.py [--quick] [--json]

A line a number: what, ours, the rival's, the ratio, the bar, met or missed. Every time is of a whole command, its
interpreter included: until the stage's first statement, until the cause of a failure is shown, and until it is known
that a finished chain of five stages needs nothing. Rounds are interleaved, the numbers are medians. The cluster is one
of its own, with a home in a temporary folder. Exit 1 when a bar is missed.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pyarrow as pa
import pyarrow.parquet as pq
from line import Line, arguments, print_lines

from raymlops import cluster

STAGES = ("train", "optimize", "score", "serve", "monitor")
MOST_S = 5.0
SPEC = """
name: toy
data: {{source: {{parquet: rows.parquet}}, label: y}}
train: {{trainers: {{xgboost: {{}}}}, seed: {seed}}}
submit: {{attempts: 1}}
"""
STAGE = """
import sys, time
from pathlib import Path
Path("began").write_text(str(time.time()))
from raymlops.submit import attempt
with attempt() as fence:
    if sys.argv[2] == "fail":
        raise ValueError("no good")
    Path(sys.argv[1]).write_text("made")
    fence.finish({"outputs": [str(Path(sys.argv[1]).absolute())]})
"""
CLIENT = """
import sys
from pathlib import Path
from raymlops.submit import submit
command = lambda stage, spec: [sys.executable, "stage.py", stage, sys.argv[1]]
submit(sys.argv[2:], Path("spec.yaml"), follow=True, command=command)
"""


@dataclass(slots=True)
class Bench:
    """The commands that are measured, in the folder where they run."""

    address: str
    environment: Mapping[str, str]
    seed: int = 0

    def ours(self, how: str, *stages: str, new: bool = True) -> float:
        """Return the seconds of our command; a new spec makes every stage one that was never run."""
        self.seed += new
        Path("spec.yaml").write_text(SPEC.format(seed=self.seed))
        return self.timed([sys.executable, "-c", CLIENT, how, *stages])

    def rivals(self, how: str) -> float:
        """Return the seconds of Ray's command, which follows the log to the end as ours does."""
        words = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--address", self.address, "--"]
        return self.timed([*words, "sh", "-c", f"cd {Path.cwd()} && exec {sys.executable} stage.py train {how}"])

    def timed(self, words: list[str]) -> float:
        """Return the seconds of a command until it ends."""
        start = time.perf_counter()
        subprocess.run(words, env=dict(self.environment), capture_output=True, check=False, timeout=300)
        return time.perf_counter() - start

    def until_it_runs(self, command: Callable[[], float]) -> float:
        """Return the seconds from the start of a command to the first statement of the stage."""
        start = time.time()
        command()
        return float(Path("began").read_text()) - start


def main() -> int:
    """Measure, print a line a number, and return the exit code."""
    given = arguments(__doc__, "3 rounds, not 9")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["RAYMLOPS_HOME"] = str(Path(folder) / "home")
        Path("stage.py").write_text(STAGE)
        pq.write_table(pa.table({"x": [1.0, 2.0], "y": [0, 1]}), "rows.parquet")
        made = cluster.start()
        try:
            bench = Bench(made.dashboard, os.environ | cluster.environment(made))
            return print_lines(measure(bench, rounds=3 if given.quick else 9), as_json=given.json)
        finally:
            cluster.stop(made)


def measure(bench: Bench, *, rounds: int) -> list[Line]:
    """Return every line."""
    calls: dict[str, Callable[[], float]] = {
        "runs": lambda: bench.until_it_runs(lambda: bench.ours("0", "train")),
        "runs, ray": lambda: bench.until_it_runs(lambda: bench.rivals("0")),
        "fails": lambda: bench.ours("fail", "train"),
        "fails, ray": lambda: bench.rivals("fail"),
    }
    for call in calls.values():
        call()
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds):
        for name in list(calls) if turn % 2 else list(calls)[::-1]:
            taken[name].append(calls[name]())
    bench.ours("0", *STAGES)
    again = [bench.ours("0", *STAGES, new=False) for _ in range(rounds)]
    seconds = {name: median(values) for name, values in taken.items()}
    return [
        _less("from the command to the stage's first statement", seconds["runs"], seconds["runs, ray"], 1.0),
        _less("from the command to the cause of a failure", seconds["fails"], seconds["fails, ray"], 1.5),
        # Ray runs a job again when it is submitted again: the rival is the limit that was promised.
        _less(
            f"resubmitting a finished chain of {len(STAGES)}, against the {MOST_S:g} s allowed",
            median(again),
            MOST_S,
            1.0,
        ),
    ]


def _less(what: str, ours: float, rival: float, bar: float) -> Line:
    return Line(what=what, unit="s", ours=ours, rival=rival, ratio=rival / ours, bar=bar)


if __name__ == "__main__":
    sys.exit(main())
