"""Any tensor, request and response of the protocol, for tests of every form."""

import math
from typing import Any, get_args

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from raymlops.codec import Datatype, InferRequest, InferResponse, Tensor

DATATYPES: tuple[Datatype, ...] = get_args(Datatype)
WHOLE = {f"{u}INT{bits}": (u, bits) for u in ("", "U") for bits in (8, 16, 32, 64)}
FLOATS = {"FP16": 16, "FP32": 32, "FP64": 64, "BF16": 32}
ARROW = {
    "FP16": pa.float16(),
    "FP32": pa.float32(),
    "FP64": pa.float64(),
    "BF16": pa.float32(),
    "BYTES": pa.string(),
    "BOOL": pa.bool_(),
} | {name: getattr(pa, name.lower())() for name in WHOLE}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
PARAMETERS = st.dictionaries(
    TEXT,
    st.one_of(TEXT, st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False, allow_infinity=False)),
    max_size=3,
)


def elements(datatype: str, *, infinite: bool) -> st.SearchStrategy[Any]:
    if datatype in WHOLE:
        unsigned, bits = WHOLE[datatype]
        return st.integers(0 if unsigned else -(2 ** (bits - 1)), 2**bits - 1 if unsigned else 2 ** (bits - 1) - 1)
    if datatype == "BF16":
        halves = st.integers(0, 2**16 - 1).map(lambda half: float(np.uint32(half << 16).view(np.float32)))
        return halves.filter(lambda value: math.isfinite(value) or (infinite and math.isinf(value)))
    if datatype in FLOATS:
        return st.floats(width=FLOATS[datatype], allow_nan=False, allow_infinity=infinite)  # type: ignore[arg-type]
    return st.booleans() if datatype == "BOOL" else TEXT


@st.composite
def tensors(draw: st.DrawFn, *, name: str, nulls: tuple[str, ...], infinite: bool) -> Tensor:
    datatype = draw(st.sampled_from(DATATYPES))
    shape = tuple(draw(st.lists(st.integers(0, 4), min_size=1, max_size=3)))
    element = elements(datatype, infinite=infinite)
    size = math.prod(shape)
    flat = draw(st.lists(st.none() | element if datatype in nulls else element, min_size=size, max_size=size))
    if datatype == "FP16":
        mask = np.array([value is None for value in flat], np.bool_)
        data = pa.array(np.array([value or 0 for value in flat], np.float16), mask=mask)
    else:
        data = pa.array(flat, type=ARROW[datatype])
    return Tensor(name=name, shape=shape, datatype=datatype, data=data, parameters=draw(PARAMETERS))


@st.composite
def many(draw: st.DrawFn, *, nulls: tuple[str, ...], infinite: bool, at_least: int) -> tuple[Tensor, ...]:
    names = draw(st.lists(TEXT.filter(bool), min_size=at_least, max_size=3, unique=True))
    return tuple(draw(tensors(name=name, nulls=nulls, infinite=infinite)) for name in names)


@st.composite
def requests(draw: st.DrawFn, *, nulls: tuple[str, ...], infinite: bool) -> InferRequest:
    """Any request; `nulls` are the datatypes that may hold a null, `infinite` allows infinities among floats."""
    outputs = draw(st.none() | st.lists(TEXT, min_size=1, max_size=3, unique=True).map(tuple))
    given = {name: draw(PARAMETERS) for name in outputs or ()}
    return InferRequest(
        inputs=draw(many(nulls=nulls, infinite=infinite, at_least=1)),
        outputs=outputs,
        id=draw(st.none() | TEXT.filter(bool)),
        parameters=draw(PARAMETERS),
        output_parameters={name: parameters for name, parameters in given.items() if parameters},
        model_name=draw(TEXT),
        model_version=draw(TEXT),
    )


RESPONSES = st.builds(
    InferResponse,
    model_name=TEXT,
    model_version=TEXT,
    id=TEXT,
    outputs=many(nulls=(), infinite=False, at_least=0),
    parameters=PARAMETERS,
)
