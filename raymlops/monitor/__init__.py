"""Monitoring: how production differs from training, period by period, and how good the answers still are."""

from raymlops.monitor.evidence import Question, evidence
from raymlops.monitor.run import run, watch

__all__ = ["Question", "evidence", "run", "watch"]
