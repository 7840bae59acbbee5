"""An engine that needs a GPU gets one of its own, on any node: two nodes with two GPUs each, as Ray counts them.

The engine is a kind of another package, found by its entry point, which notes where it is loaded and what it sees.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow.dataset
import pytest

from raymlops import registry
from raymlops.engine import write_choice
from tests.counted import install
from tests.nodes import two_nodes
from tests.score.faults.place import DEAD, Place, prepare

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]
FILES = 24


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="rml-") as name:
        folder = Path(name)
        monkeypatch.setenv("RAYMLOPS_HOME", f"{name}/home")
        install(folder, monkeypatch)
        made = prepare(folder, files=FILES, rows=100)
        for key, value in made.environment.items():
            monkeypatch.setenv(key, value)
        yield made


@pytest.mark.parametrize(("share", "devices"), [(1.0, 4), (0.5, 2)], ids=["whole", "half"])
def test_each_worker_holds_its_share_of_one_gpu_on_every_node(place: Place, share: float, devices: int) -> None:
    write_choice(registry.resolve("m@1"), {"counted": {"gpu": share}}, "a test")
    with two_nodes(gpus=2) as nodes:
        driver = place.score("out", **nodes.inside)
        _, said = driver.communicate(timeout=150)
    assert driver.returncode == 0, said
    rows = pyarrow.dataset.dataset(place.folder / "out", format="parquet").to_table(columns=["id"])
    assert len(set(rows.column("id").to_pylist())) == rows.num_rows == place.rows - DEAD
    seen = [path.read_text().split() for path in (place.folder / "notes").iterdir()]
    assert len(seen) == 4  # a CPU each
    assert {device for _, device in seen} <= {"0", "1"}
    assert len({(node, device) for node, device in seen}) == devices
    assert len({node for node, _ in seen}) == 2


def test_a_cluster_without_a_gpu_is_told_so_at_once(place: Place) -> None:
    write_choice(registry.resolve("m@1"), {"counted": {"gpu": 1.0}}, "a test")
    code = place.score("out")
    _, said = code.communicate(timeout=100)
    assert code.returncode == 3
    assert "a worker needs 1 GPU and 1 CPU, the cluster has" in said
