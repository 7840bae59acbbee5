"""A TensorRT plan: from an ONNX graph to bytes, and from bytes to what a GPU runs. Knows nothing of versions.

One code serves `tensorrt` 10 and 11 and `tensorrt_rtx`, whose plans are not each other's: the types of a network come
from its graph, never from a flag. `tensorrt_rtx` builds without a GPU, `tensorrt` only for the one that it finds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

from raymlops.errors import EngineError, MissingExtra

__all__ = ["PORTABLE", "Module", "Plan", "build_plan", "find_module", "network_of", "open_plan"]

Module = Literal["tensorrt_rtx", "tensorrt"]
PORTABLE = "portable"
_USUAL_ROWS = 256


def find_module(wanted: Literal["auto", "tensorrt_rtx", "tensorrt"]) -> Module:
    """Return the module to use, "auto" the first that is installed; nothing is imported. Else raise MissingExtra."""
    names: tuple[Module, ...] = ("tensorrt_rtx", "tensorrt") if wanted == "auto" else (wanted,)
    for name in names:
        if find_spec(name) is not None:
            return name
    raise MissingExtra(f"engine 'tensorrt': {' or '.join(names)} is not installed; `pip install raymlops[gpu]`")


def build_plan(graph: bytes, *, module: Module, target: str, most_rows: int, where: str) -> bytes:
    """Return the plan of a graph whose input is `x` [batch, features], for 1 to ``most_rows`` rows a call.

    ``target`` is a compute capability, such as "8.9", or "portable": every GPU that tensorrt_rtx knows. float32 is
    computed as such, not as TF32. Raise EngineError, with TensorRT's own words, for what it cannot build.
    """
    trt: Any = import_module(module)
    logger, said = _logger(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(graph):
        problems = [parser.get_error(number) for number in range(parser.num_errors)]
        reasons = "; ".join(f"{one.node_operator()}: {one.desc()}" for one in problems) or _joined(said)
        raise EngineError(f"{where}: {module} cannot take the graph: {reasons}")
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)
    config.set_flag(trt.BuilderFlag.STRICT_NANS)  # a missing value is a NaN
    profile, rest = builder.create_optimization_profile(), tuple(network.get_input(0).shape)[1:]
    profile.set_shape("x", (1, *rest), (min(_USUAL_ROWS, most_rows), *rest), (most_rows, *rest))
    config.add_optimization_profile(profile)
    _aim(trt, config, target, where)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(f"{where}: {module} cannot build it for target {target!r}: {_joined(said)}")
    return bytes(memoryview(plan))


def _aim(trt: Any, config: Any, target: str, where: str) -> None:
    """Name the target; a full TensorRT takes none, it builds for the GPU that it finds."""
    capabilities = trt.ComputeCapability.__members__ if hasattr(trt, "ComputeCapability") else {}
    if target == PORTABLE or not capabilities:
        return
    known = {f"{int(value) // 10}.{int(value) % 10}": value for value in capabilities.values() if int(value) >= 10}
    if target not in known:
        allowed = ", ".join((PORTABLE, *known))
        raise EngineError(f"{where}: target {target!r} is not known to {trt.__name__}; known are {allowed}")
    config.num_compute_capabilities = 1
    if not config.set_compute_capability(known[target], 0):
        raise EngineError(f"{where}: {trt.__name__} refuses target {target!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """An engine of TensorRT with what must live as long as it does."""

    runtime: Any
    engine: Any
    said: list[str]


def open_plan(plan: bytes, *, module: Module, where: str) -> Plan:
    """Return the plan as the GPU's own engine; raise EngineError, with TensorRT's own words, if it refuses.

    TensorRT may end the process: where there is no driver, or for a plan that is not its own. So `cuda.require` comes
    first, and `probe` for a plan that this process has not run yet.
    """
    trt: Any = import_module(module)
    logger, said = _logger(trt)
    runtime = trt.Runtime(logger)
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise EngineError(f"{where}: {module} refuses the plan{_diagnosis(trt, runtime, plan)}: {_joined(said)}")
    return Plan(runtime=runtime, engine=engine, said=said)


def _diagnosis(trt: Any, runtime: Any, plan: bytes) -> str:
    if not hasattr(runtime, "get_engine_validity"):
        return ""
    _, bits = runtime.get_engine_validity(plan)
    names = [name for name, value in trt.EngineInvalidityDiagnostics.__members__.items() if int(value) & int(bits)]
    return f" ({', '.join(names)})" if names else ""


def network_of(opened: Plan, *, answer_shape: tuple[int, ...], where: str) -> Callable[[int], Callable[[Any], Any]]:
    """Return what `captured` takes: for a number of rows, a function of a tensor on the GPU, with its own context.

    A context a size, because a captured graph holds for the shapes and the scratch memory of its context.
    """
    import torch

    def network(rows: int) -> Callable[[Any], Any]:
        context = opened.engine.create_execution_context()
        if context is None:
            raise EngineError(f"{where}: TensorRT cannot make a context: {_joined(opened.said)}")

        def run(x: Any) -> Any:
            y = torch.empty((rows, *answer_shape), dtype=torch.float32, device="cuda")
            context.set_input_shape("x", tuple(x.shape))
            context.set_tensor_address("x", x.data_ptr())
            context.set_tensor_address("y", y.data_ptr())
            if not context.execute_async_v3(torch.cuda.current_stream().cuda_stream):
                raise EngineError(f"{where}: TensorRT cannot run {rows} rows: {_joined(opened.said)}")
            return y

        return run

    return network


def _logger(trt: Any) -> tuple[Any, list[str]]:
    """Return a logger and the errors that it hears: a call that fails returns nothing, the reason is said there."""
    said: list[str] = []

    class Logger(trt.ILogger):  # type: ignore[misc]  # the library calls a class of its own
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                said.append(message.strip())

    return Logger(), said


def _joined(said: list[str]) -> str:
    return " | ".join(said) or "it does not say why"
