"""Ray's job server over its REST API, with a time-out on every call. Knows nothing of steps, and needs no Ray here."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raymlops.errors import NotFound, StageFailed, Unavailable
from raymlops.spec import home
from raymlops.submit.address import is_local
from raymlops.submit.decide import JobState

if TYPE_CHECKING:
    import httpx

__all__ = ["RayJob", "RayJobs", "cause_in", "exit_cause", "job_server"]

_CONNECT_S, _PROBE_S, _CALL_S = 5.0, 5.0, 60.0
_STATES: Mapping[str, JobState] = {
    "PENDING": "pending",
    "RUNNING": "running",
    "SUCCEEDED": "succeeded",
    "FAILED": "failed",
    "STOPPED": "stopped",
}
_TRACEBACK = "Traceback (most recent call last):"
_EXCEPTION = re.compile(r"^[A-Za-z_][\w.]*(?:: .*)?$")


@dataclass(frozen=True, slots=True, kw_only=True)
class RayJob:
    """What Ray says of a job; times are seconds of the epoch, `exit_code` is negative for a signal."""

    id: str
    state: JobState
    exit_code: int | None = None
    message: str = ""
    entrypoint: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    started: float | None = None
    finished: float | None = None


@dataclass(frozen=True, slots=True)
class RayJobs:
    """A job server at a URL. Every call raises Unavailable, naming the address, when it does not answer."""

    url: str
    client: "httpx.Client"

    def probe(self) -> None:
        """Return if a Ray job server answers within 10 seconds and takes our token."""
        answer = self._call("GET", "/api/version", timeout_s=_PROBE_S)
        if answer.status_code != 200 or "ray_version" not in answer.text:
            raise Unavailable(f"{self.url}: answers with {answer.status_code}, but is not a Ray job server")

    def submit(
        self,
        submission_id: str,
        entrypoint: str,
        *,
        variables: Mapping[str, str],
        metadata: Mapping[str, str],
        working_dir: str | None = None,
    ) -> bool:
        """Submit a job; return False if the id is known already, which is then the same job."""
        environment: dict[str, object] = {"env_vars": dict(variables)}
        if working_dir:
            environment["working_dir"] = working_dir
        body = {
            "entrypoint": entrypoint,
            "submission_id": submission_id,
            "runtime_env": environment,
            "metadata": dict(metadata),
            "entrypoint_num_cpus": 0,
        }
        answer = self._call("POST", "/api/jobs/", json=body)
        if answer.status_code == 200:
            return True
        if "already exists" in answer.text:
            return False
        raise StageFailed(f"{self.url}: refused job {submission_id}: {_last_line(answer.text)}")

    def find(self, submission_id: str) -> RayJob:
        """Return a job; its state is `missing` when Ray does not know it."""
        answer = self._call("GET", f"/api/jobs/{submission_id}")
        if answer.status_code == 404:
            return RayJob(id=submission_id, state="missing")
        return _job(self._json(answer))

    def jobs(self) -> list[RayJob]:
        """Return all submitted jobs, the oldest first."""
        found = [_job(row) for row in self._json(self._call("GET", "/api/jobs/")) if row.get("submission_id")]
        return sorted(found, key=lambda job: job.started or 0.0)

    def logs(self, submission_id: str) -> str:
        """Return the whole log so far; nothing before the job begins. NotFound: Ray does not know the job."""
        answer = self._call("GET", f"/api/jobs/{submission_id}/logs")
        if answer.status_code == 404:
            raise NotFound(f"{submission_id}: {self.url} knows no such job; its log ended with its cluster")
        return str(self._json(answer).get("logs") or "")

    def stop(self, submission_id: str) -> bool:
        """Ask a job to end: SIGTERM, then SIGKILL. Return whether it was running; a job Ray lost is not."""
        answer = self._call("POST", f"/api/jobs/{submission_id}/stop")
        return answer.status_code != 404 and bool(self._json(answer).get("stopped"))

    def has_package(self, name: str) -> bool:
        """Return whether the server holds an uploaded package."""
        return self._call("GET", f"/api/packages/gcs/{name}").status_code == 200

    def put_package(self, name: str, data: bytes) -> None:
        """Upload a package; the same name and bytes may be sent again."""
        answer = self._call("PUT", f"/api/packages/gcs/{name}", content=data)
        if answer.status_code != 200:
            raise StageFailed(f"{self.url}: refused {name} of {len(data):,} bytes: {_last_line(answer.text)}")

    def _json(self, answer: "httpx.Response") -> Any:
        if answer.status_code != 200:
            raise StageFailed(f"{self.url}: {answer.request.url.path}: {_last_line(answer.text)}")
        return answer.json()

    def _call(
        self, method: str, path: str, *, timeout_s: float = _CALL_S, json: object = None, content: bytes | None = None
    ) -> "httpx.Response":
        import httpx

        for token in _tokens(self.url):
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            timeout = httpx.Timeout(timeout_s, connect=_CONNECT_S)
            try:
                answer = self.client.request(
                    method, f"{self.url}{path}", json=json, content=content, headers=headers, timeout=timeout
                )
            except httpx.HTTPError as error:
                what = str(error) or type(error).__name__
                raise Unavailable(f"{self.url}: no Ray job server answers: {what}; is the cluster up?") from error
            if answer.status_code not in (401, 403):
                return answer
        raise Unavailable(
            f"{self.url}: refuses the token ({answer.status_code}); set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH"
        )


@contextmanager
def job_server(url: str) -> Iterator[RayJobs]:
    """Hold connections to the job server at a URL; nothing is sent yet."""
    import httpx

    # A proxy of the environment must not see what stays on this machine.
    with httpx.Client(trust_env=not is_local(url)) as client:
        yield RayJobs(url, client)


def exit_cause(job: RayJob) -> str:
    """Return in words how the process of a job ended, or nothing if Ray does not say."""
    import signal

    code = job.exit_code
    if code is None:
        return ""
    number = -code if code < 0 else code - 128 if code > 128 else 0
    if number:
        known = number in {int(one) for one in signal.Signals}
        return f"killed by signal {number}" + (f" ({signal.Signals(number).name})" if known else "")
    return f"ended with exit code {code}"


def cause_in(log: str) -> str:
    """Return the last exception in a log as `Type: message` with the end of its traceback, else its last lines.

    >>> cause_in("a\\nTraceback (most recent call last):\\n  File 'x', line 1\\nValueError: no\\n").splitlines()[0]
    'ValueError: no'
    """
    lines = log.rstrip().splitlines()
    starts = [index for index, line in enumerate(lines) if line.startswith(_TRACEBACK)]
    if not starts:
        return "\n".join(lines[-3:])
    block = lines[starts[-1] :]
    ends = [index for index, line in enumerate(block) if index and _EXCEPTION.match(line)]
    end = ends[0] if ends else len(block) - 1
    return "\n".join([block[end], *block[max(end - 8, 0) : end]])


def _tokens(url: str) -> list[str]:
    """Return the tokens to try: on this machine that of this home's cluster, then what Ray's own tools would send."""
    path = os.environ.get("RAY_AUTH_TOKEN_PATH")
    files = (
        home() / "cluster-token" if is_local(url) else None,
        Path(path).expanduser() if path else None,
        Path.home() / ".ray" / "auth_token",
    )
    found = [file.read_text(encoding="utf-8").strip() for file in files if file and file.is_file()]
    ambient = os.environ.get("RAY_AUTH_TOKEN", "").strip()
    return list(dict.fromkeys([*found[:1], ambient, *found[1:]] if ambient else found)) or [""]


def _job(row: Mapping[str, Any]) -> RayJob:
    return RayJob(
        id=str(row.get("submission_id")),
        state=_STATES.get(str(row.get("status")), "running"),
        exit_code=row.get("driver_exit_code"),
        message=str(row.get("message") or ""),
        entrypoint=str(row.get("entrypoint") or ""),
        metadata={str(name): str(value) for name, value in (row.get("metadata") or {}).items()},
        started=_seconds(row.get("start_time")),
        finished=_seconds(row.get("end_time")),
    )


def _seconds(milliseconds: int | None) -> float | None:
    return milliseconds / 1000 if milliseconds else None


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1][:300] if lines else "no reason given"
