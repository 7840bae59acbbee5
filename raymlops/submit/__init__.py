"""The job layer: stages as Ray jobs, in order, each done once. Knows nothing of what a stage does."""

from raymlops.submit.address import check_address
from raymlops.submit.chain import StepResult, submit
from raymlops.submit.fence import Fence, attempt
from raymlops.submit.jobs import Job, jobs, logs, show, stop
from raymlops.submit.ledger import Ledger, Step
from raymlops.submit.scheduler import keep_schedule, start_schedule

__all__ = [
    "Fence",
    "Job",
    "Ledger",
    "Step",
    "StepResult",
    "attempt",
    "check_address",
    "jobs",
    "keep_schedule",
    "logs",
    "show",
    "start_schedule",
    "stop",
    "submit",
]
