"""Engines on a GPU, where there is none: each says what it needs, and refuses before it does anything."""

from pathlib import Path
from typing import Any

import pytest

from raymlops.engine.captured import BATCHES, parts
from raymlops.engine.cuda import capability
from raymlops.engine.engines.pytorch import Pytorch
from raymlops.engine.engines.xgboost import Xgboost
from raymlops.errors import EngineError, SpecError
from raymlops.plugins import build


def _is_here() -> bool:
    try:
        return bool(capability("test"))
    except EngineError:
        return False


@pytest.mark.skipif(_is_here(), reason="a GPU is here, which these engines would use")
@pytest.mark.parametrize("kind", [Pytorch, Xgboost])
def test_an_engine_on_a_gpu_is_refused_where_there_is_none(kind: Any, trees: Any, network: Any, tmp_path: Path) -> None:
    tiny = network if kind is Pytorch else trees
    engine = kind(device="cuda")
    with pytest.raises(EngineError, match="needs a CUDA GPU, and here is no NVIDIA driver"):
        engine.compile(tiny.folder, tmp_path, sample=tiny.sample)
    with pytest.raises(EngineError, match="needs a CUDA GPU"):
        engine.load(tiny.folder, tmp_path, threads=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [Pytorch, Xgboost])
def test_an_engine_of_one_library_refuses_the_models_of_another(
    kind: Any, trees: Any, network: Any, tmp_path: Path
) -> None:
    tiny = trees if kind is Pytorch else network
    for device in ("cpu", "cuda"):
        with pytest.raises(EngineError, match="use native or onnxruntime"):
            kind(device=device).compile(tiny.folder, tmp_path, sample=tiny.sample)


@pytest.mark.parametrize("kind", ["pytorch", "xgboost"])
def test_a_process_needs_the_share_of_a_gpu_that_the_option_names(kind: str) -> None:
    made = {
        (device, share): build("raymlops.engine.engines", {kind: {"device": device, "gpu": share}}, where="test").gpus()
        for device in ("cpu", "cuda") for share in (0.25, 1.0)
    }  # fmt: skip
    assert made == {("cpu", 0.25): 0.0, ("cpu", 1.0): 0.0, ("cuda", 0.25): 0.25, ("cuda", 1.0): 1.0}
    for share in (0, -1, 1.5):
        with pytest.raises(SpecError, match="gpu"):
            build("raymlops.engine.engines", {kind: {"device": "cuda", "gpu": share}}, where="test")


@pytest.mark.parametrize("rows", [0, 1, 2, 8, 9, 4095, 4096, 4097, 10_000])
def test_rows_are_cut_into_batches_that_hold_them_and_no_smaller_one_would(rows: int) -> None:
    made = list(parts(rows, BATCHES))
    assert [row for rows_, _ in made for row in range(rows_.start, rows_.stop)] == list(range(rows))
    for cut, number in made:
        size = cut.stop - cut.start
        assert size <= BATCHES[number]
        assert number == 0 or size > BATCHES[number - 1]
