"""What a person sees while work goes on. Knows nothing of what the work is."""

from raymlops.telemetry.progress import progress, say

__all__ = ["progress", "say"]
