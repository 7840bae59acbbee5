"""The optimize stage: every candidate engine is built and measured, and the fastest within the budget answers."""

from raymlops.optimize.judge import Candidate, Latency, Reading, choose
from raymlops.optimize.latency import asking, latencies
from raymlops.optimize.run import run

__all__ = ["Candidate", "Latency", "Reading", "asking", "choose", "latencies", "run"]
