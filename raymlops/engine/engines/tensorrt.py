"""TensorRT on a GPU, from the version's ONNX graph. Knows nothing of other engines.

A plan is a cache entry like any artefact. Its key holds what decides about the graph (the version, the code and the
packages that export it), the module's version, and as options the precision, the target and the profile.
"""

import hashlib
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from raymlops.codec import dumps
from raymlops.engine import cuda
from raymlops.engine.graph import check_graph, checked_graph, largest_difference, session
from raymlops.engine.half import halved
from raymlops.engine.model import load_format, read_model
from raymlops.engine.plan import PORTABLE, Module, build_plan, find_module
from raymlops.engine.probe import PLAN, keep_rows, load_plan, tried
from raymlops.engine.quantize import check_products, quantized
from raymlops.engine.tensors import as_tensors
from raymlops.errors import EngineError
from raymlops.protocols import Predictor
from raymlops.values import Float32

__all__ = ["Tensorrt"]

# The largest difference from native, of the scale, that a plan may show when it is tried: what is beyond is not the
# precision. How much of the metric a precision may cost is for `optimize.budget.error` to say.
_LIMITS = {"fp32": 1e-3, "fp16": 2e-2, "bf16": 1e-1, "int8": 0.3, "fp8": 0.5}
_TENSORS_DIFFER = 1e-5  # sums in another order
_PROBE_ROWS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensorrt:
    """A plan for 1 to ``most_rows`` rows a call, on a share ``gpu`` of one GPU.

    ``target`` is a compute capability, or "portable" for all that `tensorrt_rtx` knows; the full `tensorrt` builds
    for the GPU that it finds, and ``target`` must name that. "auto" takes `tensorrt_rtx` where both are installed.
    """

    precision: Literal["fp32", "fp16", "bf16", "int8", "fp8"] = "fp32"
    module: Literal["auto", "tensorrt_rtx", "tensorrt"] = "auto"
    most_rows: Annotated[int, Field(ge=1, le=65_536)] = 4_096
    target: str = PORTABLE
    gpu: Annotated[float, Field(gt=0, le=1)] = 1.0

    def gpus(self) -> float:
        """Return `gpu`."""
        return self.gpu

    def compile(self, version: Path, artefact: Path, *, sample: Float32) -> None:
        """Write `model.plan`, what it was built from and with, and rows to try it with.

        Raise MissingExtra without the module, EngineError for what TensorRT cannot take or build. Trees, which it
        has no operator for, are written as tensors; they have no matrix product, so they stay in "fp32".
        """
        module = find_module(self.module)
        if module == "tensorrt":
            self._check_target(version)
        graph = self._graph(version, sample)
        plan = build_plan(graph, module=module, target=self.target, most_rows=self.most_rows, where=str(version))
        rows = sample[:_PROBE_ROWS] if len(sample) else np.zeros((1, read_model(version).features), np.float32)
        (artefact / PLAN).write_bytes(plan)
        (artefact / "plan.json").write_bytes(dumps(_told(module, graph), indent=True))
        keep_rows(artefact, rows, load_format(version).load(version, threads=1).predict(rows))

    def load(self, version: Path, artefact: Path, *, threads: int) -> Predictor:
        """Return the plan on the GPU, tried in a child process first; `threads` is not used."""
        where, module = f"{version}: engine tensorrt", find_module(self.module)
        cuda.require(where)
        if module == "tensorrt":
            self._check_target(version)
        cuda.check_memory(self.gpu, where)
        words = (str(version), str(artefact), module, str(self.most_rows), str(_LIMITS[self.precision]))
        tried(version, ("-m", "raymlops.engine.probe", *words))
        return load_plan(version, artefact, module=module, most_rows=self.most_rows)

    def _check_target(self, version: Path) -> None:
        here = cuda.capability(f"{version}: engine tensorrt, whose full module builds for the GPU that it finds")
        if self.target != here:
            raise EngineError(
                f"{version}: tensorrt builds for the GPU that it finds, of compute capability {here}, and target is "
                f"{self.target!r}; write target: {here!r}, or module: tensorrt_rtx"
            )

    def _graph(self, version: Path, sample: Float32) -> bytes:
        """Return the graph that TensorRT takes, typed as the precision says."""
        graph = checked_graph(version, sample=sample)
        made = as_tensors(graph, where=str(version))
        if made is not graph:
            check_graph(made, version)
            answers = [session(one, version, threads=1).predict(sample) for one in (made, graph)]
            if not largest_difference(*answers) <= _TENSORS_DIFFER:
                raise EngineError(
                    f"{version}: its trees written as tensors answer otherwise; use native, and report it"
                )
        if self.precision == "fp32":
            return made
        check_products(made, where=version, precision=self.precision)
        if self.precision in ("fp16", "bf16"):
            return halved(made, self.precision)
        return quantized(made, sample=sample, where=version, form="fp8" if self.precision == "fp8" else "any")


def _told(module: Module, graph: bytes) -> dict[str, str]:
    name = {"tensorrt_rtx": "tensorrt-rtx", "tensorrt": "tensorrt"}[module]
    return {"module": module, "version": installed(name), "graph": hashlib.sha256(graph).hexdigest()}
