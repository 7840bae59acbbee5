"""Two nodes of one CPU on this machine: `python nodes.py FOLDER` writes what they are, and ends with standard input."""

import json
import sys

from ray._private import ray_constants
from ray.cluster_utils import Cluster

__all__: list[str] = []


def _main(folder: str) -> None:
    options = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 100 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={**options, "temp_dir": folder})
    nodes = [cluster.head_node, cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20)]
    raylets = [node.all_processes[ray_constants.PROCESS_TYPE_RAYLET][0].process.pid for node in nodes]
    print(json.dumps({"address": cluster.address, "raylets": raylets}), flush=True)
    sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    _main(sys.argv[1])
