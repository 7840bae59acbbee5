"""SIGNATURES: bodies follow."""

from dataclasses import dataclass

__all__ = ["Job", "jobs", "logs", "show", "stop"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    id: str
    stage: str
    name: str
    state: str
    ray_status: str
    attempt: int
    started: float | None
    finished: float | None
    cause: str
    outputs: tuple[str, ...]


def jobs(address: str | None = None) -> list[Job]:
    raise NotImplementedError


def show(id: str, address: str | None = None) -> Job:
    raise NotImplementedError


def logs(id: str, address: str | None = None) -> str:
    raise NotImplementedError


def stop(id: str, address: str | None = None) -> Job:
    raise NotImplementedError
