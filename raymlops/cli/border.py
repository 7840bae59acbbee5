"""The border of the process: errors become exit codes, results become text or JSON. Knows nothing of commands."""

import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from types import FrameType
from typing import Annotated, Any, TextIO

import typer

from raymlops.codec import dumps
from raymlops.errors import RaymlopsError

__all__ = ["JsonFlag", "border", "out", "until_stopped"]

_PIPE_IS_SHUT = 128 + signal.SIGPIPE
_results: list[TextIO] = []  # where results go; the last is that of the command that runs

JsonFlag = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]


@contextmanager
def border(*, as_json: bool) -> Iterator[None]:
    """Turn an error into its exit code and its sentence: 1 it ran and failed, 2 wrong input, 3 something is missing.

    Ctrl-C and SIGTERM unwind the stack, so that what was started is ended, and exit with 130 and 143. Standard output
    is for results alone: what libraries print meanwhile, as Ray does of workers that die, goes to standard error.
    """
    signal.signal(signal.SIGTERM, _terminated)
    # A shell that starts a command in the background makes it deaf to Ctrl-C; who sends the signal means it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _results.append(sys.stdout)
    try:
        with redirect_stdout(sys.stderr):
            yield
    except typer.Exit:
        raise
    except RaymlopsError as error:
        _fail(error.problems, error.exit_code, as_json=as_json)
    except KeyboardInterrupt:
        _fail(["interrupted; the same command goes on from here"], 130, as_json=as_json)
    except Exception as error:  # noqa: BLE001 - the border of the process: shown, with its trace, and passed on as exit 1
        if os.environ.get("RAYMLOPS_DEBUG") or "RAYMLOPS_STEP" in os.environ:
            traceback.print_exc()
        _fail([f"{type(error).__name__}: {error}"], 1, as_json=as_json)
    finally:
        _results.pop()


def until_stopped() -> None:
    """Return when somebody sends SIGINT or SIGTERM: for a command whose normal end that is."""
    try:
        while True:
            signal.pause()
    except (KeyboardInterrupt, SystemExit):
        return


def out(value: Any, *, as_json: bool, text: str) -> None:
    """Write a result: JSON for machines, else the text. Exit with 141 if who reads has heard enough, as `head` has."""
    results = _results[-1]
    try:
        results.write(dumps(value, indent=True).decode() if as_json else text)
        results.write("\n")
        results.flush()
    except BrokenPipeError:
        # Python flushes once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), results.fileno())
        raise typer.Exit(_PIPE_IS_SHUT) from None


def _fail(problems: Any, code: int, *, as_json: bool) -> None:
    if as_json:
        _results[-1].write(dumps({"error": list(problems), "exit": code}, indent=True).decode() + "\n")
    for problem in problems:
        sys.stderr.write(f"error: {problem}\n")
    sys.stderr.flush()
    raise typer.Exit(code)


def _terminated(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
