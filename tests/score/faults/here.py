"""Batch runs scored in one process, each in a fork of its own that may be killed: `python here.py`.

A line of standard input is `{"home": PATH, "spec": YAML, "fault": {…}}`, its answer `{"code": N, "said": TEXT}`, with
-9 for a process that was killed. Forks of a process that has imported all it needs start in milliseconds.
"""

import importlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

import typer

from raymlops.cli.border import border
from raymlops.score.ledger import PieceCount
from raymlops.score.piece import Plan, Scorer
from raymlops.score.run import run
from raymlops.spec import Spec, parse
from raymlops.values import Piece
from tests.score.faults.sitecustomize import Fault, faulty

__all__ = ["NO_FAULT", "in_this_process", "score"]

NO_FAULT = Fault(step="none")


def in_this_process() -> ModuleType:
    """Return a stand-in for `raymlops.score.on_ray` that scores the pieces one after another, here."""

    def score_pieces(plan: Plan, pieces: Sequence[tuple[int, Piece]], *, workers: int | None) -> Iterator[PieceCount]:
        scorer = Scorer(plan)
        return (scorer.score(index, piece) for index, piece in pieces)

    made = ModuleType("raymlops.score.on_ray")
    made.score_pieces = score_pieces  # type: ignore[attr-defined]
    return made


def score(spec: Spec, fault: Fault = NO_FAULT, **options: Any) -> int:
    """Score as the command does, under a fault, and return the exit code."""
    try:
        with border(as_json=False), faulty(fault):
            run(spec, **options)
    except typer.Exit as ended:
        return int(ended.exit_code)
    return 0


def main() -> None:
    """Answer lines until there is none."""
    sys.modules["raymlops.score.on_ray"] = in_this_process()
    for name in ("pyarrow.dataset", "pyarrow.parquet", "raymlops.engine.engines.native", "sqlite3", "xgboost"):
        importlib.import_module(name)
    for line in sys.stdin:
        sys.stdout.write(json.dumps(_forked(**json.loads(line))) + "\n")
        sys.stdout.flush()


def _forked(home: str, spec: str, fault: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if child == 0:
            os.environ["RAYMLOPS_HOME"] = home
            os.dup2(said.fileno(), 2)
            os._exit(score(parse(spec), Fault(**fault)))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        said.seek(0)
        return {"code": code, "said": said.read().decode()}


if __name__ == "__main__":
    main()
