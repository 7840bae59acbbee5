"""How pieces spread over the nodes of a cluster: a source that notes who reads, and a cluster of two nodes.

    python benchmarks/score_nodes.py SPEC

scores SPEC, whose source is of the kind `noted`, on a node of 1 CPU and one of 2, and prints as JSON how many pieces
each has read. Knows nothing of time.
"""

import json
import os
import secrets
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from score_work import Part

from raymlops import score
from raymlops.cluster.on_ray import connect
from raymlops.data.sources.parquet import Parquet
from raymlops.spec import load
from raymlops.values import Piece

__all__ = ["CPUS", "Noted", "noted"]

CPUS = (1, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """Parquet files; whoever reads a piece notes its parent process, which is the raylet of its node."""

    path: str
    notes: str

    def schema(self) -> pa.Schema:
        """Return the schema that all files share."""
        return Parquet(path=self.path).schema()

    def pieces(self) -> Sequence[Piece]:
        """Return the pieces in order of file names."""
        return Parquet(path=self.path).pieces()

    def read(self, piece: Piece, *, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield the rows of the piece, and note who asks."""
        with Path(self.notes).open("a") as notes:
            notes.write(f"{os.getppid()}\n")
        yield from Parquet(path=self.path).read(piece, columns=columns)


def noted(folder: Path, part: Part) -> tuple[Path, dict[str, str]]:
    """Return a spec that reads the part through `noted`, and the environment in which that kind is installed.

    It is installed as any package outside raymlops installs a kind.
    """
    info = folder / "noted-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: noted\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[raymlops.sources]\nnoted = score_nodes:Noted\n")
    spec = folder / "noted.yaml"
    head, _, _ = part.spec.read_text().partition("score:")
    spec.write_text(f"{head}score: {{source: {{noted: {{path: {part.rows}, notes: {folder / 'notes'}}}}}}}\n")
    paths = [str(folder), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    return spec, {"PYTHONPATH": os.pathsep.join(path for path in paths if path)}


def main(path: Path) -> dict[str, int]:
    """Return the number of pieces of each node."""
    os.environ |= {
        "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }  # fmt: skip
    from ray.cluster_utils import Cluster

    spec = load(path)
    one = {"node_ip_address": "127.0.0.1", "object_store_memory": 200 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": CPUS[0], **one})
    try:
        nodes = [cluster.head_node, cluster.add_node(num_cpus=CPUS[1], **one)]
        cluster.wait_for_nodes()
        raylets = [node.all_processes["raylet"][0].process.pid for node in nodes]
        with connect(cluster.address):
            score.run(spec)
    finally:
        cluster.shutdown()
    read = Counter(int(pid) for pid in (path.parent / "notes").read_text().split())
    assert set(read) <= set(raylets), f"read by {read}, raylets are {raylets}"
    return {name: read[pid] for name, pid in zip(("first", "second"), raylets, strict=True)}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
