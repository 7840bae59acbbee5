"""Score what `score.every` makes due, period by period, while nobody else does. What is next, `schedule.py` decides."""

import os
import socket
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from raymlops.codec import digest
from raymlops.errors import Conflict, SpecError, StageFailed, Unavailable
from raymlops.spec import Cron, Period, Spec, load
from raymlops.submit.address import check_address
from raymlops.submit.driver import CHAIN, drive
from raymlops.submit.follow import Setting, StepResult, run_step
from raymlops.submit.ledger import Ledger, Step
from raymlops.submit.place import place_of
from raymlops.submit.ray_jobs import job_server
from raymlops.submit.schedule import Ask, Busy, Lease, Release, Rest, Rule, Run, Settle
from raymlops.submit.timetable import Schedule
from raymlops.telemetry import say

__all__ = ["keep_schedule", "start_schedule"]

_LEASE_S, _AGAIN_S = 60.0, 5.0


def start_schedule(spec_path: Path, *, address: str | None = None, since: datetime | None = None) -> StepResult:
    """Let a job of the cluster keep the schedule of a spec, as `keep_schedule` does, or attach to the one that does.

    SpecError: the spec has no `score.every`. Conflict: the schedule is kept for a file of the same name elsewhere.
    """
    spec = load(spec_path)
    schedule = _schedule(spec, spec_path)
    url = check_address(address)
    with job_server(url) as server:
        server.probe()
        setting = Setting(spec=spec, ledger=Ledger(), server=server, place=place_of(url, spec_path))
        options = ["--since", since.isoformat()] if since else []
        return drive(setting, "schedule", identity=schedule.identity, stages=["score"], options=options)


def keep_schedule(
    spec_path: Path,
    *,
    address: str | None = None,
    since: datetime | None = None,
    once: bool = False,
    lease_s: float = _LEASE_S,
) -> list[StepResult]:
    """Score each period when it is due, as a job of the cluster, until stopped; with `once` those due now.

    A new schedule begins at `since`, UTC, else with the period under way. A period that fails in every attempt is
    recorded with its cause, and the next one follows. Who finds another holder of the lease waits, to take over.

    SpecError: the spec has no `score.every`. With `once`, Conflict: another one has the lease; StageFailed: the causes
    of periods that failed, when all that is due is settled.
    """
    spec = load(spec_path)
    schedule = _schedule(spec, spec_path)
    url = check_address(address)
    with job_server(url) as server:
        server.probe()
        place = place_of(url, spec_path)
        setting = Setting(spec=spec, ledger=Ledger(), server=server, place=place, chain=os.environ.get(CHAIN, ""))
        keeper = _Keeper(setting=setting, schedule=schedule, path=spec_path, since=since, lease_s=lease_s)
        try:
            while keeper.work(once=once):
                keeper.read_again()
        finally:
            keeper.release()
    if keeper.failed:
        raise StageFailed(*keeper.failed)
    return keeper.results


@dataclass(slots=True, kw_only=True)
class _Keeper:
    """One process that keeps a schedule, or waits to: what it holds, and what it has done."""

    setting: Setting
    schedule: Schedule
    path: Path
    since: datetime | None
    lease_s: float
    fence: int = 0
    told: str = ""
    results: list[StepResult] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def work(self, *, once: bool) -> bool:
        """Do the next thing, or wait for it; return False when there is none and nobody waits for more."""
        ask = Ask(now=time.time(), holder=f"{socket.gethostname()}:{os.getpid()}", fence=self.fence, since=self.since)
        action = self.setting.ledger.turn(self.schedule, ask, rule=self._rule)
        if isinstance(action, Busy):
            busy = f"schedule {self.schedule.name}: {action.holder} has the lease until {_shown(action.expires)}"
            if once:
                raise Conflict(f"{busy}, and does what is due")
            self._tell(action.holder, f"{busy}; waiting")
            self.fence = 0
            self._sleep(action.expires)
            return True
        assert isinstance(action, Run | Rest)
        self.fence = action.fence
        if isinstance(action, Run):
            self._score(action, patient=not once)
            return True
        due = action.until.replace(tzinfo=UTC).timestamp()
        self._tell(str(due), f"schedule {self.schedule.name}: next due {_shown(due)}")
        if not once:
            self._sleep(due)
        return not once

    def read_again(self) -> None:
        """Take the spec as it is now; one that is wrong leaves the former in force. SpecError: it has no schedule."""
        try:
            spec = load(self.path)
        except SpecError as error:
            self._tell(str(error), f"schedule {self.schedule.name}: the spec is wrong now, the former holds: {error}")
            return
        self.schedule = replace(self.schedule, every=_every(spec))
        self.setting = replace(self.setting, spec=spec)

    def release(self) -> None:
        """Give the lease back, so that another one need not wait for its end."""
        if self.fence:
            self.setting.ledger.turn(self.schedule, Release(now=time.time(), fence=self.fence), rule=self._rule)

    @property
    def _rule(self) -> Rule:
        catch_up = self.setting.spec.score.catch_up
        return Rule(every=Cron(self.schedule.every), catch_up=catch_up, lease_s=self.lease_s)

    def _score(self, action: Run, *, patient: bool) -> None:
        if action.skips:
            say(f"schedule {self.schedule.name}: leaves out {action.skips} (score.catch_up: last)")
        say(f"schedule {self.schedule.name}: period {action.period}")
        try:
            self._brought_to_its_end(action.period)
        except (Conflict, StageFailed, Unavailable) as error:
            if not patient:
                raise
            say(f"schedule {self.schedule.name}: {error}")
            time.sleep(_AGAIN_S)
            return
        settle = Settle(now=time.time(), fence=self.fence, period=action.period)
        self.setting.ledger.turn(self.schedule, settle, rule=self._rule)

    def _brought_to_its_end(self, period: Period) -> None:
        place = self.setting.place
        step = Step(
            identity=digest(["score", self.schedule.identity, str(period)]),
            stage="score",
            name=f"{self.schedule.name} {period}",
            spec=str(place.spec),
            address=self.setting.server.url,
        )
        words = [place.python, "-m", "raymlops", "score", str(place.spec), "--period", str(period)]
        lease = Lease(schedule=self.schedule.identity, fence=self.fence, rule=self._rule)
        try:
            self.results.append(run_step(replace(self.setting, lease=lease), step, words))
        except StageFailed as error:
            if not self._given_up(step):
                raise  # the job server refused it: nothing is wrong with the period
            again = f"`raymlops score {place.spec} --period {period}` does it again"
            self.failed.append(f"period {period}: {error}; {again}")
            say(f"schedule {self.schedule.name}: {self.failed[-1]}")

    def _given_up(self, step: Step) -> bool:
        found = self.setting.ledger.find(step.identity)
        if found is None or found.state.phase != "failed":
            return False
        return found.state.final or found.state.tries >= self.setting.spec.submit.attempts

    def _sleep(self, until: float) -> None:
        # Short enough to renew the lease, and to find out that a clock was set or that the holder gave up.
        time.sleep(min(max(until - time.time(), 0.1), self.lease_s / 3))

    def _tell(self, what: str, text: str) -> None:
        if what != self.told:
            self.told = what
            say(text)


def _schedule(spec: Spec, path: Path) -> Schedule:
    """Return the schedule by the model's and the file's name, so that a copy of the spec elsewhere is the same one."""
    identity = digest(["schedule", spec.name, path.name])
    return Schedule(identity=identity, name=spec.name, spec=str(path.absolute()), every=_every(spec))


def _every(spec: Spec) -> str:
    if spec.score.every is None:
        raise SpecError("score.every: is not there, so there is no schedule")
    return spec.score.every


def _shown(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M:%S} UTC"
