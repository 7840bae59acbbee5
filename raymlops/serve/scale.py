"""How many replicas a load needs. Knows nothing of Ray: Serve's controller calls it with what replicas have told.

The load of a replica is the larger of two numbers over the last seconds: CPUs that its server process kept busy, and
requests that it was answering. It has one thread for most of what it does, so at 1 it can do no more.
"""

import math
from typing import Any

__all__ = ["LOAD", "autoscaling", "replicas_for"]

LOAD = "load"
TARGET = 0.6  # of a replica: what is left is for the seconds until another one is up
_UP_AFTER_S = 3.0
_DOWN_AFTER_S = 60.0


def replicas_for(context: Any) -> tuple[float, dict[str, Any]]:
    """Return the number of replicas that the load of all of them needs, and no state."""
    loads = (context.aggregated_metrics or {}).get(LOAD, {})
    return max(1, math.ceil(sum(loads.values()) / TARGET - 1e-9)), {}


def autoscaling(fewest: int, most: int) -> dict[str, Any]:
    """Return Ray Serve's autoscaling configuration between two numbers of replicas."""
    return {
        "min_replicas": fewest,
        "max_replicas": most,
        "metrics_interval_s": 1.0,
        "look_back_period_s": 3.0,
        "upscale_delay_s": _UP_AFTER_S,
        "downscale_delay_s": _DOWN_AFTER_S,
        "policy": {"policy_function": f"{__name__}:replicas_for"},
    }
