"""TensorRT where there is no GPU: plans are built for real, what cannot be is refused with its reason, none is run.

No test here runs a plan. What the driver's absence makes of one is real too: the library refuses it.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from raymlops.engine import artefact_key, compile_artefact, predictor
from raymlops.engine.cuda import capability
from raymlops.engine.engines.tensorrt import Tensorrt
from raymlops.engine.plan import build_plan, find_module, open_plan
from raymlops.engine.probe import tried
from raymlops.engine.quantize import quantized
from raymlops.errors import EngineError, MissingExtra, SpecError
from raymlops.plugins import build
from raymlops.values import JsonValue

trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed: pip install 'raymlops[gpu]'")


def _is_here() -> bool:
    try:
        return bool(capability("test"))
    except EngineError:
        return False


without_gpu = pytest.mark.skipif(_is_here(), reason="a GPU is here, which would run the plan")


def built(tiny: Any, folder: Path, **options: Any) -> Path:
    folder.mkdir(exist_ok=True)
    Tensorrt(most_rows=256, **options).compile(tiny.folder, folder, sample=tiny.sample)
    return folder


def is_a_plan(plan: bytes) -> bool:
    """Without a driver only the head of a plan is read, so a cut is not seen: that is for the artefact's digests."""
    runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
    bad = int(trt.EngineInvalidityDiagnostics.MALFORMED_ENGINE)
    return not int(runtime.get_engine_validity(plan)[1]) & bad


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8", "fp8"])
def test_a_plan_of_every_precision_is_built_of_a_network(precision: str, network: Any, tmp_path: Path) -> None:
    folder = built(network, tmp_path / "artefact", precision=precision)
    plan = (folder / "model.plan").read_bytes()
    assert is_a_plan(plan)
    assert not is_a_plan(b"damaged" + plan[7:])
    told = json.loads((folder / "plan.json").read_bytes())
    assert (told["module"], told["version"]) == ("tensorrt_rtx", trt.__version__)
    assert len(told["graph"]) == 64


def test_a_plan_is_built_of_trees(trees: Any, tmp_path: Path) -> None:
    assert is_a_plan((built(trees, tmp_path / "artefact") / "model.plan").read_bytes())


def test_tensorrt_has_no_operator_for_trees_itself(trees: Any) -> None:
    from raymlops.engine import load_format

    with pytest.raises(EngineError, match=r"cannot take the graph: TreeEnsembleRegressor: .*Plugin not found"):
        _build(load_format(trees.folder).to_onnx(trees.folder))


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8", "fp8"])
def test_trees_stay_in_float32_and_the_error_says_why(precision: str, trees: Any, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=f"{precision} has nothing to quantize.* trees compare and add"):
        built(trees, tmp_path / "artefact", precision=precision)
    assert list((tmp_path / "artefact").iterdir()) == []


def _build(graph: bytes, *, target: str = "portable") -> bytes:
    return build_plan(graph, module="tensorrt_rtx", target=target, most_rows=64, where="test")


@pytest.mark.parametrize("target", ["8.0", "8.6", "8.9", "12.0"])
def test_a_plan_may_aim_at_one_kind_of_gpu(target: str, graph: bytes) -> None:
    assert is_a_plan(_build(graph, target=target))


@pytest.mark.parametrize("target", ["9.0", "10.0", "hopper", ""])
def test_a_target_that_the_module_does_not_know_is_refused_with_those_that_it_does(target: str, graph: bytes) -> None:
    with pytest.raises(EngineError, match=r"is not known to tensorrt_rtx; known are portable, 7\.5, 8\.0"):
        _build(graph, target=target)


def test_what_a_gpu_cannot_do_is_refused_when_it_is_built(network: Any, graph: bytes) -> None:
    with pytest.raises(EngineError, match=r"cannot build it for target '7\.5'"):
        _build(graph, target="7.5")
    fp8 = quantized(graph, sample=network.sample, where=network.folder, form="fp8")
    with pytest.raises(EngineError, match=r"cannot build it for target '8\.6'"):
        _build(fp8, target="8.6")
    assert is_a_plan(_build(fp8, target="8.9"))


def test_a_bias_of_int32_which_other_quantizers_write_is_refused_by_its_parser(
    network: Any, graph: bytes, tmp_path: Path
) -> None:
    import numpy as np
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    (tmp_path / "float.onnx").write_bytes(graph)
    rows = iter([{"x": np.ascontiguousarray(network.sample)}])
    reader = type("Reader", (), {"get_next": lambda self: next(rows, None)})()
    options = {"ActivationSymmetric": True, "WeightSymmetric": True}
    quantize_static(
        str(tmp_path / "float.onnx"),
        str(tmp_path / "int8.onnx"),
        reader,
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["Gemm", "MatMul"],
        extra_options=options,
    )
    with pytest.raises(EngineError, match="Int32"):
        _build((tmp_path / "int8.onnx").read_bytes())


def test_the_same_words_build_a_plan_of_the_same_graph(network: Any, tmp_path: Path) -> None:
    """A plan's own bytes are not compared: with a softmax in it tensorrt_rtx 1.7 changes a few from build to build."""
    first, second = (built(network, tmp_path / name, precision="int8") for name in ("first", "second"))
    assert (first / "plan.json").read_bytes() == (second / "plan.json").read_bytes()
    assert (first / "probe_y.npy").read_bytes() == (second / "probe_y.npy").read_bytes()


def test_everything_that_decides_about_a_plan_is_in_its_key(network: Any) -> None:
    words: list[dict[str, Any]] = [
        {},
        {"precision": "fp16"},
        {"most_rows": 8},
        {"target": "8.9"},
        {"module": "tensorrt"},
    ]
    options = [
        {"precision": "fp32", "module": "auto", "most_rows": 64, "target": "portable", "gpu": 1.0, **one}
        for one in words
    ]
    assert len({artefact_key(network.version, "tensorrt", one) for one in options}) == len(words)


def test_a_plan_is_cached_and_a_damaged_one_built_again(network: Any, home: Path) -> None:
    engine: JsonValue = {"tensorrt": {"most_rows": 64}}
    folder = compile_artefact(network.version, engine, network.sample)
    stamp = (folder / "model.plan").stat().st_mtime_ns
    assert compile_artefact(network.version, engine) == folder
    assert (folder / "model.plan").stat().st_mtime_ns == stamp
    (folder / "model.plan").write_bytes(b"damaged")
    compile_artefact(network.version, engine)
    assert is_a_plan((folder / "model.plan").read_bytes())


@without_gpu
def test_a_plan_is_not_loaded_where_there_is_no_driver(network: Any, home: Path) -> None:
    with pytest.raises(EngineError, match="engine tensorrt: needs a CUDA GPU, and here is no NVIDIA driver"):
        predictor(network.version, engine=("tensorrt", {"most_rows": 64}))


@without_gpu
def test_the_library_itself_refuses_a_plan_without_a_driver_and_its_words_are_kept(
    network: Any, tmp_path: Path
) -> None:
    folder = built(network, tmp_path / "artefact")
    with pytest.raises(EngineError, match=r"tensorrt_rtx refuses the plan: .*cudaError 35"):
        open_plan((folder / "model.plan").read_bytes(), module="tensorrt_rtx", where="test")
    with pytest.raises(EngineError, match=r"refuses the plan \(MALFORMED_ENGINE\)"):
        open_plan(b"no plan at all" * 10, module="tensorrt_rtx", where="test")
    words = (str(network.folder), str(folder), "tensorrt_rtx", "256", "0.001")
    with pytest.raises(
        EngineError, match=r"in a process of its own, it ended with 1: .*refuses the plan.*cudaError 35"
    ):
        tried(network.folder, ("-m", "raymlops.engine.probe", *words))


def test_a_plan_that_ends_its_process_ends_only_the_child(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="in a process of its own, signal SIGSEGV ended it: it said nothing"):
        tried(tmp_path, ("-c", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"))
    tried(tmp_path, ("-c", "pass"))


def test_the_full_module_is_named_where_it_is_missing(network: Any, tmp_path: Path) -> None:
    if _installed("tensorrt"):
        pytest.skip("the full tensorrt is installed")
    with pytest.raises(MissingExtra, match="tensorrt is not installed"):
        built(network, tmp_path / "artefact", module="tensorrt")
    assert find_module("auto") == "tensorrt_rtx"


def _installed(name: str) -> bool:
    from importlib.util import find_spec

    return find_spec(name) is not None


def test_options_that_make_no_sense_are_refused_with_their_place() -> None:
    assert build("raymlops.engine.engines", {"tensorrt": {"gpu": 0.25}}, where="test").gpus() == 0.25
    senseless: list[dict[str, JsonValue]] = [
        {"gpu": 0},
        {"gpu": 2},
        {"most_rows": 0},
        {"precision": "int4"},
        {"module": "torch_tensorrt"},
    ]
    for options in senseless:
        with pytest.raises(SpecError, match=rf"test\.tensorrt\.{next(iter(options))}"):
            build("raymlops.engine.engines", {"tensorrt": options}, where="test")
