"""Two engines by the size of a request: only where they agree, and the same bits for requests of the same size."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from raymlops.engine import compile_artefact, load_format, predictor
from raymlops.engine.edges import edge_rows
from raymlops.engine.engines.by_size import BySize
from raymlops.engine.engines.native import Native
from raymlops.engine.engines.onnxruntime import Onnxruntime
from raymlops.engine.graph import largest_difference
from raymlops.errors import EngineError, SpecError
from raymlops.plugins import build
from raymlops.testing.engine_laws import check_engine
from raymlops.values import JsonValue


@pytest.mark.parametrize("rows", [2, 3, 64, 150])
def test_it_keeps_the_laws_wherever_the_sizes_part(rows: int, trees: Any) -> None:
    check_engine(BySize(rows=rows), trees.folder, trees.sample)


def test_a_small_request_has_the_bits_of_one_engine_and_a_large_one_those_of_the_other(
    trees: Any, tmp_path: Path
) -> None:
    BySize(rows=50).compile(trees.folder, tmp_path, sample=trees.sample)
    made = BySize(rows=50).load(trees.folder, tmp_path, threads=1)
    (tmp_path / "alone").mkdir()
    Onnxruntime().compile(trees.folder, tmp_path / "alone", sample=trees.sample)
    small = Onnxruntime().load(trees.folder, tmp_path / "alone", threads=1)
    large = Native().load(trees.folder, tmp_path, threads=1)
    for size, engine in ((1, small), (49, small), (50, large), (200, large)):
        assert np.array_equal(made.predict(trees.sample[:size]), engine.predict(trees.sample[:size]))


def test_rows_stand_on_and_beside_every_threshold_and_miss_values(trees: Any) -> None:
    graph = load_format(trees.folder).to_onnx(trees.folder)
    given = {a.name: helper.get_attribute_value(a) for a in onnx.load_model_from_string(graph).graph.node[0].attribute}
    splits = {
        (feature, np.float32(value))
        for mode, feature, value in zip(
            given["nodes_modes"], given["nodes_featureids"], given["nodes_values"], strict=True
        )
        if mode != b"LEAF"
    }
    rows = edge_rows(graph, 5)
    assert len(splits) > 20
    for feature, value in splits:
        column = set(rows[:, feature].tolist())
        beside = (np.nextafter(value, np.float32(-np.inf)), value, np.nextafter(value, np.float32(np.inf)))
        assert column >= {float(one) for one in beside}
    assert 0.1 < np.isnan(rows).mean() < 0.3
    assert np.isnan(rows[-1]).all()
    assert np.array_equal(rows, edge_rows(graph, 5), equal_nan=True)


def test_a_graph_without_trees_has_rows_all_the_same(graph: bytes) -> None:
    assert edge_rows(graph, 5).shape == (257, 5)


def test_engines_that_differ_are_refused_with_their_difference(network: Any, tmp_path: Path) -> None:
    engine = BySize(small={"onnxruntime": "int8"})
    with pytest.raises(EngineError, match=r"differ by .* of the scale, at most 1e-06 is allowed"):
        engine.compile(network.folder, tmp_path, sample=network.sample)


LEANING = '''
from dataclasses import dataclass
import onnx
from raymlops.engine.engines.onnxruntime import Onnxruntime
from raymlops.engine.model import load_format

@dataclass(frozen=True, slots=True, kw_only=True)
class Leaning:
    """Trees whose comparisons take the other side of a threshold, and nothing else."""

    def gpus(self):
        return 0.0

    def compile(self, version, artefact, *, sample):
        model = onnx.load_model_from_string(load_format(version).to_onnx(version))
        for attribute in model.graph.node[0].attribute:
            if attribute.name == "nodes_modes":
                attribute.strings[:] = [mode.replace(b"BRANCH_LT", b"BRANCH_LEQ") for mode in attribute.strings]
        (artefact / "model.onnx").write_bytes(model.SerializeToString())

    def load(self, version, artefact, *, threads):
        return Onnxruntime().load(version, artefact, threads=threads)
'''


def test_engines_that_differ_on_a_threshold_alone_are_refused(
    trees: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages, artefact = tmp_path / "packages", tmp_path / "artefact"
    (packages / "leaning-1.dist-info").mkdir(parents=True)
    (packages / "leaning.py").write_text(LEANING)
    (packages / "leaning-1.dist-info" / "METADATA").write_text("Name: leaning\nVersion: 1\n")
    (packages / "leaning-1.dist-info" / "entry_points.txt").write_text(
        "[raymlops.engines]\nleaning = leaning:Leaning\n"
    )
    monkeypatch.syspath_prepend(packages)
    artefact.mkdir()
    off_every_edge = np.random.default_rng(99).normal(2, 3, (200, 5)).astype(np.float32)
    engine = BySize(small="leaning")
    with pytest.raises(EngineError, match="'leaning' and 'native' differ by"):
        engine.compile(trees.folder, artefact, sample=off_every_edge)
    small, large = engine.load(trees.folder, artefact, threads=1), Native().load(trees.folder, artefact, threads=1)
    answers = [made.predict(off_every_edge[:100]) for made in (small, large)]
    assert largest_difference(*answers) <= 1e-6


def test_it_is_one_artefact_that_holds_both_and_its_words_say_where_they_part(trees: Any, home: Path) -> None:
    folder = compile_artefact(trees.version, {"by_size": {"rows": 40}}, trees.sample)
    built = json.loads((folder / "built.json").read_bytes())
    assert built["options"] == {"small": "onnxruntime", "large": "native", "rows": 40}
    assert set(built["files"]) == {"small/model.onnx"}
    assert compile_artefact(trees.version, {"by_size": {"rows": 41}}) != folder
    assert predictor(trees.version, engine=("by_size", {"rows": 40})).predict(trees.sample).shape[0] == 200


def test_an_inner_engine_that_is_none_is_refused_where_the_spec_is_read() -> None:
    wrong: dict[str, JsonValue] = {"did you mean 'onnxruntime'": "onxruntime", "int7": {"onnxruntime": "int7"}}
    for said, value in wrong.items():
        with pytest.raises(SpecError, match=rf"test\.by_size\.small: .*{said}"):
            build("raymlops.engine.engines", {"by_size": {"small": value}}, where="test")
    for rows in (0, 1, 70_000):
        with pytest.raises(SpecError, match=r"test\.by_size\.rows"):
            build("raymlops.engine.engines", {"by_size": {"rows": rows}}, where="test")


def test_it_needs_the_gpu_that_one_of_its_engines_needs() -> None:
    assert BySize().gpus() == 0
    assert BySize(large={"xgboost": {"device": "cuda", "gpu": 0.5}}).gpus() == 0.5
