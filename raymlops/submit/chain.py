"""SIGNATURES: bodies follow."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from raymlops.values import JsonValue

__all__ = ["StepResult", "submit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    stage: str
    identity: str
    state: Literal["done", "skipped", "attached", "submitted"]
    attempt: int
    submission_id: str
    seconds: float
    result: dict[str, JsonValue]


def submit(
    stages: Sequence[str],
    spec_path: Path,
    *,
    address: str | None = None,
    follow: bool = False,
    arguments: Sequence[str] = (),
    command: Callable[[str, Path], list[str]] | None = None,
) -> list[StepResult]:
    """StageFailed with the cause; without `follow` one StepResult of the driver job, state "submitted"."""
    raise NotImplementedError
