"""Files that were made to do harm: refused before any of them runs or any other file is read."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from raymlops.engine import compile_artefact, load_format
from raymlops.engine.engines.onnxruntime import Onnxruntime
from raymlops.errors import EngineError
from raymlops.values import Float32


class Bomb:
    """What a pickle makes of itself when it is loaded: it creates the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str, int]]:
        return os.open, (str(self.path), os.O_CREAT | os.O_WRONLY)


@pytest.fixture
def bomb(tmp_path: Path) -> tuple[bytes, Path]:
    import pickle

    made = pickle.dumps(Bomb(tmp_path / "ran"))
    os.close(pickle.loads(made))  # it works, so that a refusal means something
    (tmp_path / "ran").unlink()
    return made, tmp_path / "ran"


def weights_at(location: str) -> bytes:
    """A graph that adds a constant of a node, whose bytes lie at a place in the file system."""
    tensor = helper.make_tensor("w", TensorProto.FLOAT, [5], np.zeros(5, np.float32).tobytes(), raw=True)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    nodes = [
        helper.make_node("Constant", [], ["c"], value=tensor),
        helper.make_node("Add", ["x", "c"], ["s"]),
        helper.make_node("ReduceSum", ["s", "axis"], ["y"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "outside",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch"])],
        initializer=[helper.make_tensor("axis", TensorProto.INT64, [1], [1])],
    )
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())


@pytest.mark.parametrize("where", ["up", "absolute", "link"])
def test_a_graph_with_weights_in_another_file_is_refused(
    where: str, trees: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret, artefact = tmp_path / "secret", tmp_path / "artefact"
    secret.write_bytes(np.arange(5, dtype=np.float32).tobytes())
    artefact.mkdir()
    (artefact / "inside").symlink_to(secret)
    location = {"up": "../secret", "absolute": str(secret), "link": "inside"}[where]
    (artefact / "model.onnx").write_bytes(weights_at(location))
    monkeypatch.chdir(artefact)
    with pytest.raises(EngineError, match="weights w lie outside the ONNX file"):
        Onnxruntime().load(trees.folder, artefact, threads=1)


def test_a_weight_outside_is_found_in_a_branch_of_a_branch(trees: Any, tmp_path: Path) -> None:
    model = onnx.load_model_from_string(weights_at("../secret"))
    nodes, outputs = list(model.graph.node), list(model.graph.output)
    branch = helper.make_graph(nodes, "branch", [], outputs)
    del model.graph.node[:]
    model.graph.initializer.append(helper.make_tensor("yes", TensorProto.BOOL, [], [True]))
    model.graph.node.append(helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch))
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(EngineError, match="weights w, w lie outside"):
        Onnxruntime().load(trees.folder, tmp_path, threads=1)


def test_an_artefact_that_is_no_graph_is_refused(trees: Any, bomb: tuple[bytes, Path], tmp_path: Path) -> None:
    made, ran = bomb
    for content in (made, b"\x08half a graph", b""):
        (tmp_path / "model.onnx").write_bytes(content)
        with pytest.raises(EngineError, match="the ONNX graph"):
            Onnxruntime().load(trees.folder, tmp_path, threads=1)
    assert not ran.exists()


def test_a_pickle_in_place_of_a_model_is_refused_and_does_not_run(
    trees: Any, network: Any, bomb: tuple[bytes, Path], tmp_path: Path
) -> None:
    made, ran = bomb
    for tiny, name in ((trees, "model.ubj"), (network, "model.safetensors")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "model.json").write_bytes((tiny.folder / "model.json").read_bytes())
        (folder / name).write_bytes(made)
        with pytest.raises(EngineError, match=name):
            load_format(folder).load(folder, threads=1)
        with pytest.raises(EngineError, match=name):
            load_format(folder).to_onnx(folder)
    assert not ran.exists()


def test_a_kept_sample_that_holds_a_pickle_is_refused_and_does_not_run(
    trees: Any, bomb: tuple[bytes, Path], home: Path
) -> None:
    _, ran = bomb
    rows: Any = np.array([Bomb(ran)], dtype=object)
    path = home / "engines" / trees.version.digest / "sample.npy"
    path.parent.mkdir(parents=True)
    np.save(path, rows, allow_pickle=True)
    ran.unlink(missing_ok=True)
    sample: Float32 = trees.sample
    with pytest.raises(EngineError, match=r"sample\.npy: holds no rows"):
        compile_artefact(trees.version, "onnxruntime", sample)
    assert not ran.exists()
