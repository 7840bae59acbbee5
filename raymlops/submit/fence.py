"""What the process of a step says to the ledger: begun, done, failed; and whether it may still commit.

Outside a submitted job (no RAYMLOPS_STEP in the environment) all of it does nothing.
"""

import os
import socket
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from raymlops.codec import dumps
from raymlops.errors import Conflict, RaymlopsError
from raymlops.submit.decide import Failed, Finished, Started
from raymlops.submit.ledger import Ledger, Step
from raymlops.values import JsonValue

__all__ = ["ATTEMPT", "FAILED", "REPORT", "RESULT", "STAGE", "STEP", "Fence", "attempt", "cause_of"]

STEP, ATTEMPT, STAGE = "RAYMLOPS_STEP", "RAYMLOPS_ATTEMPT", "RAYMLOPS_STAGE"
# Set where the submitter cannot read this machine's ledger: the outcome is then also a line of the job's log.
REPORT = "RAYMLOPS_REPORT"
RESULT, FAILED = "raymlops-result: ", "raymlops-failed: "
_TAIL_LINES = 12


@dataclass(frozen=True, slots=True)
class Fence:
    """One attempt of a step. With an empty identity it guards nothing."""

    identity: str = ""
    number: int = 0
    stage: str = "step"
    ledger: Ledger = field(default_factory=Ledger)

    def may_commit(self) -> None:
        """Raise Conflict when a later attempt has taken over, or this one was given up."""
        if not self.identity:
            return
        found = self.ledger.find(self.identity)
        if found is None:
            return
        if found.state.attempt > self.number:
            raise Conflict(
                f"attempt {self.number} of {self.stage} was superseded by attempt {found.state.attempt}; "
                "nothing was committed"
            )
        if found.state.phase == "failed":
            raise Conflict(
                f"attempt {self.number} of {self.stage} was given up: {found.state.cause.splitlines()[0]}; "
                "nothing was committed"
            )

    def start(self) -> None:
        """Record that the work begins, and where; raise Conflict as `may_commit` does."""
        process = f"{socket.gethostname()}:{os.getpid()}"
        if self.identity and not self.ledger.report(
            self._step(), Started(now=time.time(), attempt=self.number), process=process
        ):
            self.may_commit()

    def finish(self, result: dict[str, JsonValue]) -> None:
        """Record the step as done; `result["outputs"]` lists what must exist for it to be done: paths and URLs.

        Raise Conflict when a later attempt has taken over.
        """
        if not self.identity:
            return
        if not self.ledger.report(self._step(), Finished(now=time.time(), attempt=self.number), result=result):
            self.may_commit()
        self._tell(RESULT, result)

    def fail(self, cause: str, *, final: bool = False) -> None:
        """Record why this attempt failed; a `final` one is not tried again. A superseded attempt changes nothing."""
        if self.identity:
            self.ledger.report(self._step(), Failed(now=time.time(), attempt=self.number, cause=cause, final=final))
            self._tell(FAILED, {"cause": cause, "final": final})

    def _step(self) -> Step:
        return Step(identity=self.identity, stage=self.stage, name="")

    def _tell(self, prefix: str, value: dict[str, JsonValue]) -> None:
        if os.environ.get(REPORT):
            sys.stderr.write(f"\n{prefix}{dumps(value).decode()}\n")
            sys.stderr.flush()


@contextmanager
def attempt() -> Iterator[Fence]:
    """Guard a stage: `with attempt() as fence:`, run with `fence.may_commit`, then `fence.finish(result)`.

    An exception is recorded as the cause and goes on; wrong input (exit code 2) or a missing thing (3) is final.
    """
    fence = Fence(os.environ.get(STEP, ""), int(os.environ.get(ATTEMPT, "1")), os.environ.get(STAGE, "step"))
    try:
        fence.start()
        yield fence
    except BaseException as error:  # a process border: recorded, and passed on
        if not (isinstance(error, SystemExit) and not error.code):
            fence.fail(cause_of(error), final=_exit_code(error) in (2, 3))
        raise


def cause_of(error: BaseException) -> str:
    """Return `Type: message`, and the end of the traceback where the message alone does not tell the place.

    >>> cause_of(Conflict("alias moved"))
    'Conflict: alias moved'
    """
    code = _exit_code(error)
    if isinstance(error, SystemExit) and code > 128:
        return f"ended by signal {code - 128}"
    text = f"{type(error).__name__}: {error}".strip().removesuffix(":")
    if isinstance(error, RaymlopsError | SystemExit | KeyboardInterrupt):
        return text
    # The first frame is the one of `attempt`, which tells nothing.
    frames = error.__traceback__.tb_next if error.__traceback__ else None
    lines = "".join(traceback.format_tb(frames)).splitlines()
    return "\n".join([text, *lines[-_TAIL_LINES:]])


def _exit_code(error: BaseException) -> int:
    if isinstance(error, RaymlopsError):
        return error.exit_code
    code = getattr(error, "code", 1)
    return code if isinstance(code, int) else 1
