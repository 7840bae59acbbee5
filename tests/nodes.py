"""Two nodes on this machine, in a process of their own, which ends with the block that holds them.

As a program, `python -m tests.nodes FOLDER GPUS DASHBOARD`, it is that process: it writes what the nodes are, and ends
with its standard input. Each node has one CPU; or as many CPUs as GPUs, which Ray only counts.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

__all__ = ["Nodes", "two_nodes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    """What is known of the nodes: the pids of their raylets, the head's first, and the dashboard's URL or nothing."""

    address: str
    raylets: tuple[int, int]
    dashboard: str

    @property
    def inside(self) -> dict[str, str]:
        """The environment of a driver that Ray has started on them."""
        return {"RAY_ADDRESS": self.address, "RAY_JOB_CONFIG_JSON_ENV_VAR": "{}", "RAY_AUTH_MODE": "disabled"}


@contextmanager
def two_nodes(*, gpus: int = 0, dashboard: bool = False) -> Iterator[Nodes]:
    """Hold two nodes with so many GPUs each."""
    # A process that ends a moment later may still write there.
    with tempfile.TemporaryDirectory(prefix="rml-", ignore_cleanup_errors=True) as folder:
        environ = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.nodes", folder, str(gpus), str(int(dashboard))],
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdin
        assert process.stdout
        try:
            made = json.loads(process.stdout.readline())
            yield Nodes(**{**made, "raylets": tuple(made["raylets"])})
        finally:
            process.stdin.close()
            process.wait(timeout=60)


def _main(folder: str, gpus: int, dashboard: bool) -> None:
    from ray._private import ray_constants
    from ray.cluster_utils import Cluster

    os.makedirs("/tmp/ray", exist_ok=True)  # Ray notes the address there, whatever the folder of the cluster is
    size = {"num_cpus": gpus or 1, "num_gpus": gpus, "object_store_memory": 100 * 2**20}
    head = {**size, "include_dashboard": dashboard, "temp_dir": folder}
    cluster = Cluster(initialize_head=True, head_node_args={**head, "dashboard_port": 0} if dashboard else head)
    nodes = [cluster.head_node, cluster.add_node(**size)]
    raylets = [node.all_processes[ray_constants.PROCESS_TYPE_RAYLET][0].process.pid for node in nodes]
    url = f"http://{cluster.head_node.webui_url}" if dashboard else ""
    print(json.dumps({"address": cluster.address, "raylets": raylets, "dashboard": url}), flush=True)
    sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]), sys.argv[3] == "1")
