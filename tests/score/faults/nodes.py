"""Two nodes on this machine: `python nodes.py FOLDER [N]` writes what they are, and ends with standard input.

Each has one CPU; or N of them and N GPUs, which Ray only counts.
"""

import json
import sys

from ray._private import ray_constants
from ray.cluster_utils import Cluster

__all__: list[str] = []


def _main(folder: str, gpus: int) -> None:
    size = {"num_cpus": gpus or 1, "num_gpus": gpus, "object_store_memory": 100 * 2**20}
    options = {**size, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={**options, "temp_dir": folder})
    nodes = [cluster.head_node, cluster.add_node(**size)]
    raylets = [node.all_processes[ray_constants.PROCESS_TYPE_RAYLET][0].process.pid for node in nodes]
    print(json.dumps({"address": cluster.address, "raylets": raylets}), flush=True)
    sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0)
