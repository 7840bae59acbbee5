"""Encoded rows as an estimator wants them that knows neither missing values nor categories: in numpy, and as ONNX.

Numbers are standardised, with 0 for a missing one and a column that says so beside it; a category becomes a column a
value, or stays an index, -1 where it is missing. Knows nothing of estimators.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from raymlops.values import Float32

__all__ = ["Preparation", "answering_graph"]

_OPSET, _IR = 20, 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """``numbers`` and ``lacking`` are features of x, those with a column for missing values the latter; ``mean`` and
    ``spread`` are of the numbers. ``categories``: feature and number of values; ``apart``: a column for each value.
    """

    features: int
    numbers: npt.NDArray[np.int64]
    lacking: npt.NDArray[np.int64]
    mean: Float32
    spread: Float32
    categories: tuple[tuple[int, int], ...]
    apart: bool

    @classmethod
    def of(cls, x: Float32, categories: Sequence[int], *, apart: bool) -> "Preparation":
        """Return what the rows x [n, features] show; a column without a value has mean 0 and spread 1."""
        numbers = np.array([j for j, count in enumerate(categories) if not count], dtype=np.int64)
        held = x[:, numbers].astype(np.float64)
        present = np.maximum(np.isfinite(held).sum(axis=0), 1)
        mean = np.nansum(held, axis=0) / present
        spread = np.sqrt(np.nansum((held - mean) ** 2, axis=0) / present)
        return cls(
            features=len(categories),
            numbers=numbers,
            lacking=numbers[np.isnan(held).any(axis=0)],
            mean=mean.astype(np.float32),
            spread=np.where(spread > 1e-12, spread, 1.0).astype(np.float32),
            categories=tuple((j, count) for j, count in enumerate(categories) if count),
            apart=apart,
        )

    @property
    def width(self) -> int:
        """How many columns there are."""
        return len(self.numbers) + len(self.lacking) + sum(n if self.apart else 1 for _, n in self.categories)

    def prepared(self, x: Float32) -> Float32:
        """Return the columns, float32 [n, width]: numbers, what is missing of them, categories."""
        numbers = (x[:, self.numbers] - self.mean) / self.spread
        parts = [np.where(np.isnan(numbers), np.float32(0), numbers), np.isnan(x[:, self.lacking])]
        for j, count in self.categories:
            of = x[:, j : j + 1]
            parts.append(of == np.arange(count) if self.apart else np.where(np.isnan(of), np.float32(-1), of))
        return np.ascontiguousarray(np.hstack([part.astype(np.float32) for part in parts]))

    def graph(self) -> Any:
        """Return an ONNX model from `x` [batch, features] to `prepared` [batch, width], which gives the same."""
        from onnx import TensorProto, helper

        made = _Nodes()
        parts = []
        if len(self.numbers):
            scaled = made.div(made.sub(made.gather("x", self.numbers), self.mean), self.spread)
            parts.append(made.where(made.node("IsNaN", scaled), np.zeros(1, np.float32), scaled))
        if len(self.lacking):
            parts.append(made.as_float(made.node("IsNaN", made.gather("x", self.lacking))))
        for j, count in self.categories:
            of = made.gather("x", np.array([j]))
            if self.apart:
                parts.append(made.as_float(made.node("Equal", of, made.constant(np.arange(count, dtype=np.float32)))))
            else:
                parts.append(made.where(made.node("IsNaN", of), np.full(1, -1, np.float32), of))
        made.nodes.append(helper.make_node("Concat", parts, ["prepared"], axis=1))
        graph = helper.make_graph(
            made.nodes,
            "preparation",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", self.features])],
            [helper.make_tensor_value_info("prepared", TensorProto.FLOAT, ["batch", self.width])],
            made.weights,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)


class _Nodes:
    """ONNX nodes in the making; every method returns the name of what its node gives."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        from onnx import helper

        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, value: npt.NDArray[Any]) -> str:
        from onnx import numpy_helper

        name = f"weight_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(value, name))
        return name

    def gather(self, of: str, features: npt.NDArray[np.int64]) -> str:
        return self.node("Gather", of, self.constant(features), axis=1)

    def sub(self, a: str, b: Float32) -> str:
        return self.node("Sub", a, self.constant(b))

    def div(self, a: str, b: Float32) -> str:
        return self.node("Div", a, self.constant(b))

    def where(self, condition: str, a: Float32, b: str) -> str:
        return self.node("Where", condition, self.constant(a), b)

    def as_float(self, of: str) -> str:
        from onnx import TensorProto

        return self.node("Cast", of, to=TensorProto.FLOAT)


def answering_graph(
    preparation: Preparation, estimator: Any, *, classes: Sequence[int], of: int, binary: bool
) -> bytes:
    """Return the whole graph, from `x` to `y`: prepared, estimated, and answered as Predictor says.

    ``estimator`` is an ONNX model from `prepared` whose last output are values, or the probabilities of ``classes``,
    of which there are ``of`` in all; 0 for a number.
    """
    import onnx
    from onnx import TensorProto, compose, helper, numpy_helper

    last, estimator.ir_version = estimator.graph.output[-1].name, _IR
    whole = compose.merge_models(preparation.graph(), estimator, io_map=[("prepared", "prepared")], outputs=[last])
    graph = whole.graph
    if of and not binary:
        spread = np.zeros((len(classes), of), np.float32)
        spread[np.arange(len(classes)), list(classes)] = 1.0
        graph.initializer.append(numpy_helper.from_array(spread, "of_classes"))
        graph.node.append(helper.make_node("MatMul", [last, "of_classes"], ["y"]))
        shape: list[Any] = ["batch", of]
    else:
        column = list(classes).index(1) if of else 0
        graph.initializer.append(numpy_helper.from_array(np.array(column), "of_column"))
        graph.node.append(helper.make_node("Gather", [last, "of_column"], ["y"], axis=1))
        shape = ["batch"]
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, shape))
    onnx.checker.check_model(whole)
    return bytes(whole.SerializeToString())
