"""The cluster on this machine: started, found again, looked over and ended. Knows nothing of stages or jobs."""

from raymlops.cluster.doctor import Finding, findings
from raymlops.cluster.local import LocalCluster, attached, environment, memory_bytes, start, stop

__all__ = ["Finding", "LocalCluster", "attached", "environment", "findings", "memory_bytes", "start", "stop"]
