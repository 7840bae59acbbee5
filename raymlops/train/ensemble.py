"""Several models as one: how much each one counts, and one ONNX graph of all. Knows nothing of versions or files.

The weights are those of the mixture that errs least on given rows (stacking with weights that add up to 1; Breiman,
1996), so a member that recent rows do not bear out gets little, or nothing.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from raymlops.values import Float32, Float64, Task

__all__ = ["joined_graph", "member_weights"]

_OPSET, _ML_OPSET, _IR = 20, 3, 10
_DOMAINS = {"": _OPSET, "ai.onnx": _OPSET, "ai.onnx.ml": _ML_OPSET}
_LEAST = 1e-3  # below which a member is left out


def member_weights(answers: Sequence[Float32], y: Float64, task: Task) -> npt.NDArray[np.float64]:
    """Return a weight for each member's answers, at least 0 and 1 together: least log loss, or squared error."""
    from scipy.optimize import minimize

    each = np.stack([_of_the_label(p, y, task) for p in answers])

    def loss(weight: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        mixed = weight @ each
        if task == "regression":
            error = mixed - y
            return float(np.mean(error**2)), 2 * each @ error / len(y)
        held = np.maximum(mixed, 1e-7)
        return float(-np.mean(np.log(held))), -(each / held).mean(axis=1)

    start = np.full(len(answers), 1 / len(answers))
    found = minimize(
        loss, start, jac=True, method="SLSQP", bounds=[(0.0, 1.0)] * len(start),
        constraints={"type": "eq", "fun": lambda weight: weight.sum() - 1}, options={"maxiter": 200},
    ).x  # fmt: skip
    kept = np.where(found > _LEAST, found, 0.0)
    return np.asarray(np.round(kept / kept.sum(), 6))


def _of_the_label(p: Float32, y: Float64, task: Task) -> npt.NDArray[np.float64]:
    """Return what a member gives to what was: the probability of the class that occurred, or the number."""
    if task == "regression":
        return p.astype(np.float64)
    of = y.astype(np.int64)
    return (
        np.where(of == 1, p, 1 - p).astype(np.float64) if p.ndim == 1 else p[np.arange(len(of)), of].astype(np.float64)
    )


def joined_graph(graphs: Sequence[bytes], weights: Sequence[float]) -> bytes:
    """Return the graph from `x` to the weighted sum of what the members give; each takes `x` and gives `y`."""
    import onnx
    from onnx import compose, helper, numpy_helper, version_converter

    nodes: list[Any] = []
    constants: list[Any] = []
    functions: list[Any] = []
    domains = dict(_DOMAINS)
    members = [version_converter.convert_version(onnx.load_model_from_string(graph), _OPSET) for graph in graphs]
    for number, (member, weight) in enumerate(zip(members, weights, strict=True)):
        one = compose.add_prefix(member, f"m{number}_")
        domains |= {opset.domain: opset.version for opset in one.opset_import if opset.domain not in _DOMAINS}
        nodes.append(helper.make_node("Identity", ["x"], [f"m{number}_x"]))
        nodes += one.graph.node
        constants += [*one.graph.initializer, numpy_helper.from_array(np.array(weight, np.float32), f"weight_{number}")]
        nodes.append(helper.make_node("Mul", [f"m{number}_y", f"weight_{number}"], [f"weighted_{number}"]))
        functions += one.functions
    nodes.append(helper.make_node("Sum", [f"weighted_{number}" for number in range(len(members))], ["y"]))
    first = members[0].graph
    made = helper.make_model(
        helper.make_graph(nodes, "ensemble", list(first.input), list(first.output), constants),
        opset_imports=[helper.make_opsetid(name, version) for name, version in domains.items() if name != "ai.onnx"],
        functions=functions,
        ir_version=_IR,
        producer_name="raymlops",
    )
    onnx.checker.check_model(made)
    return bytes(made.SerializeToString(deterministic=True))
