"""Answer one request by one model: tensors to rows, contract, engine, tensors. Knows nothing of HTTP, gRPC or Ray."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from raymlops.codec import Datatype, InferRequest, InferResponse, Plain, Tensor, write_plain
from raymlops.contract import Contract, Feature, answers, encode
from raymlops.errors import DataError, EngineError, SpecError
from raymlops.plugins import suggestion
from raymlops.serve.models import Model
from raymlops.values import Float32

__all__ = [
    "MATRIX",
    "Asked",
    "Problem",
    "Refused",
    "ask",
    "ask_plain",
    "input_tensors",
    "predict",
    "respond",
    "respond_plain",
    "rows_of",
]

MATRIX = "x"
_FEW_ROWS = 256  # above, looking at each column by itself costs as little
_DATATYPE: dict[str, Datatype] = {"number": "FP64", "integer": "INT64", "boolean": "BOOL", "category": "BYTES"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What breaks the contract: one value of one row, or with ``row`` None a column as a whole."""

    row: int | None
    column: str | None
    rule: str
    value: str | None


class Refused(DataError):  # noqa: N818 - reads as what happened
    """Rows that the contract does not accept, and every reason."""

    def __init__(self, refusals: Sequence[Problem]) -> None:
        first = refusals[0]
        place = [f"row {first.row}"] if first.row is not None else []
        place += [f"column {first.column!r}"] if first.column is not None else []
        given = f", {first.value} given" if first.value is not None else ""
        more = f" (and {len(refusals) - 1} more)" if len(refusals) > 1 else ""
        super().__init__(f"{', '.join(place) or 'rows'}: {first.rule}{given}{more}")
        self.refusals = refusals


def rows_of(request: InferRequest) -> int:
    """Return how many rows a request holds: the first dimension of its first tensor."""
    return request.inputs[0].shape[0]


def input_tensors(contract: Contract) -> list[tuple[str, Datatype]]:
    """Return name and preferred datatype of each input, one a feature, in the order of the matrix."""
    return [(feature.name, _DATATYPE[feature.type]) for feature in contract.features]


@dataclass(slots=True)
class Asked:
    """A request that its model accepts: rows x [n, features], the answers that are wanted, and an id.

    ``request`` is None for a plain one, which wants every answer and has no other wishes.
    """

    model: Model
    x: Float32
    wanted: Sequence[tuple[str, Datatype]]
    id: str
    request: InferRequest | None = None


def ask(model: Model, request: InferRequest, *, id: str) -> Asked:
    """Return the request as its model takes it.

    Raise SpecError for tensors or outputs that the model does not have, Refused for columns or values that break the
    contract.
    """
    wanted = _wanted(model, request.outputs)
    x = _screened(model, request.inputs)
    if x is None:
        x = _encoded(model.contract, _columns(model.contract, request.inputs))
    return Asked(model, x, wanted, id, request)


def ask_plain(model: Model, plain: Plain, *, id: str) -> Asked | None:
    """Return a plain request as its model takes it, None where `ask` has to look at it."""
    matrix = plain.matrix()
    width = len(model.contract.features)
    if matrix is None or matrix.shape[1] != width or (width == 1 and MATRIX in model.contract.names):
        return None
    x = model.screen.matrix(matrix)
    return None if x is None else Asked(model, x, model.outputs, id)


def predict(model: Model, x: Float32) -> Float32:
    """Return the engine's answers; raise EngineError when they are not one finite number, or distribution, a row."""
    label = model.contract.label
    shape = (len(x), len(label.classes)) if label.task == "multiclass" else (len(x),)
    if not len(x):
        return np.empty(shape, dtype=np.float32)
    y = model.predictor.predict(x)
    if y.shape != shape or b"\0" in np.isfinite(y).tobytes():
        raise EngineError(
            f"{model.wanted.name}@{model.wanted.number}: engine {model.engine} answered {y.shape} with "
            f"{int((~np.isfinite(y)).sum())} numbers that are not finite; {shape} finite numbers were due"
        )
    return y


def respond(asked: Asked, y: Float32) -> InferResponse:
    """Return the answers of the engine as the response to a request."""
    found = answers(asked.model.contract.label, y)
    return InferResponse(
        model_name=asked.model.wanted.name,
        model_version=str(asked.model.wanted.number),
        id=asked.id,
        parameters=_parameters(asked.model),
        outputs=tuple(_output(name, datatype, found[name]) for name, datatype in asked.wanted),
    )


def respond_plain(asked: Asked, y: Float32) -> bytes:
    """Return the body of the response to a plain request, the same bytes as of any other form of it."""
    found = answers(asked.model.contract.label, y)
    wanted = asked.model.wanted
    outputs = [(name, datatype, found[name]) for name, datatype in asked.wanted]
    return write_plain(wanted.name, str(wanted.number), asked.id, _parameters(asked.model), outputs)


def _parameters(model: Model) -> dict[str, str]:
    return {"variant": model.variant, "engine": model.engine}


def _wanted(model: Model, requested: tuple[str, ...] | None) -> list[tuple[str, Datatype]]:
    known = dict(model.outputs)
    unknown = [(i, name) for i, name in enumerate(requested or ()) if name not in known]
    if unknown:
        names = tuple(known)
        raise SpecError(
            *(
                f"outputs[{i}].name: unknown output {name!r:.80}{suggestion(name[:80], names)}, "
                f"known are {', '.join(names)}"
                for i, name in unknown[:20]
            )
        )
    return [(name, known[name]) for name in requested or known]


def _screened(model: Model, inputs: tuple[Tensor, ...]) -> Float32 | None:
    """Return the rows of plain tensors that break no rule; None where they have to be looked at one by one."""
    if _is_matrix(model.contract, inputs):
        (matrix,) = inputs
        if matrix.shape[1] != len(model.contract.features):
            return None
        return model.screen.matrix(matrix.data.to_numpy(zero_copy_only=False).reshape(matrix.shape))
    if len(inputs) != len(model.contract.features) or inputs[0].shape[0] > _FEW_ROWS:
        return None
    if any(len(t.shape) != 1 for t in inputs):
        return None
    return model.screen.columns({t.name: t.data for t in inputs})


def _columns(contract: Contract, inputs: tuple[Tensor, ...]) -> dict[str, pa.Array]:
    if _is_matrix(contract, inputs):
        return _matrix_columns(contract, inputs[0])
    names = contract.names
    problems = [
        f"inputs[{i}].name: the model has no feature {t.name!r:.80}{suggestion(t.name[:80], names)}, "
        f"it has {', '.join(names)}"
        for i, t in enumerate(inputs)
        if t.name not in names
    ]
    problems += [
        f"inputs[{i}].shape: {list(t.shape)} given; a feature has shape [rows] or [rows, 1]"
        for i, t in enumerate(inputs)
        if len(t.shape) > 2 or t.shape[1:] not in ((), (1,))
    ]
    if problems:
        raise SpecError(*problems[:20])
    return {t.name: t.data for t in inputs}


def _is_matrix(contract: Contract, inputs: tuple[Tensor, ...]) -> bool:
    """Return whether the request is one matrix; a lone feature that is itself called `x` is a column."""
    if len(inputs) != 1 or inputs[0].name != MATRIX or inputs[0].datatype not in ("FP32", "FP64"):
        return False
    return len(inputs[0].shape) == 2 and not (MATRIX in contract.names and inputs[0].shape[1] == 1)


def _matrix_columns(contract: Contract, matrix: Tensor) -> dict[str, pa.Array]:
    width = len(contract.features)
    if matrix.shape[1] != width:
        raise SpecError(f"inputs[0].shape: {list(matrix.shape)} given; [rows, {width}] is needed, a column a feature")
    values = matrix.data.to_numpy(zero_copy_only=False).reshape(matrix.shape)
    return {feature.name: _column(feature, values[:, i]) for i, feature in enumerate(contract.features)}


def _column(feature: Feature, values: np.ndarray) -> pa.Array:
    if feature.type != "category":
        return pa.array(values, from_pandas=True)
    count = len(feature.categories)
    known = (values >= 0) & (values < count) & (values == np.floor(values))
    indices = pa.array(np.where(known, values, 0).astype(np.int64), mask=~known)
    texts = pa.array(feature.categories, pa.string()).take(indices)
    wrong = np.flatnonzero(~known & ~np.isnan(values))
    if not len(wrong):
        return texts
    # An index that is none becomes a text that is no category, so that the contract refuses it as it does any other.
    shown = texts.to_pylist()
    for row in wrong:
        shown[row] = f"index {values[row]:g} of {count} categories"
    return pa.array(shown, pa.string())


def _encoded(contract: Contract, columns: Mapping[str, pa.Array]) -> Float32:
    try:
        encoded = encode(contract, columns)
    except DataError as error:
        raise Refused([_whole_column(contract, text) for text in error.problems]) from error
    except pa.ArrowException as error:
        raise Refused([Problem(row=None, column=None, rule=f"cannot be read: {error}", value=None)]) from error
    if encoded.violations:
        raise Refused([Problem(row=v.row, column=v.column, rule=v.rule, value=v.value) for v in encoded.violations])
    return encoded.x


def _whole_column(contract: Contract, text: str) -> Problem:
    column = next((name for name in contract.names if text.startswith(f"column {name!r}: ")), None)
    rule = text.removeprefix(f"column {column!r}: ") if column is not None else text
    return Problem(row=None, column=column, rule=rule, value=None)


def _output(name: str, datatype: Datatype, values: np.ndarray) -> Tensor:
    data = pa.array(values, pa.string() if datatype == "BYTES" else pa.float32())
    return Tensor(name=name, shape=(len(values),), datatype=datatype, data=data)
