"""The request that nearly everybody sends, read at once: one matrix of numbers in JSON. Knows no words for mistakes.

What is read is what `parse_request` would return, without an object a tensor; whatever is not quite it, is for
`parse_request`. What is written is what `write_response` would write.
"""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import numpy as np
import orjson

from raymlops.codec.oip import Datatype, Parameters
from raymlops.values import Float32, Float64

__all__ = ["Plain", "parse_plain", "write_plain"]

_MOST_ID = 256
_MOST_BYTES = 4096  # above, the long way is as quick


class _Matrix(msgspec.Struct, forbid_unknown_fields=True):
    name: Literal["x"]
    shape: tuple[int, int]
    datatype: Literal["FP32", "FP64"]
    data: list[float]


class Plain(msgspec.Struct, forbid_unknown_fields=True):
    """A request for every output of a matrix called `x`."""

    inputs: tuple[_Matrix]
    id: str | None = None

    def matrix(self) -> Float32 | Float64 | None:
        """Return the matrix [rows, features] in the type that it was sent in; None if the shape is not that of data."""
        (sent,) = self.inputs
        rows, features = sent.shape
        if rows < 0 or features < 1 or rows * features != len(sent.data):
            return None
        flat: Any = np.array(sent.data, dtype=np.float32 if sent.datatype == "FP32" else np.float64)
        matrix: Float32 | Float64 = flat.reshape(rows, features)
        return matrix


_decoder = msgspec.json.Decoder(Plain)


def parse_plain(body: bytes) -> Plain | None:
    """Return the request, None if the body is any other, or long, or none."""
    if len(body) > _MOST_BYTES:
        return None
    try:
        plain = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return plain if plain.id is None or len(plain.id) <= _MOST_ID else None


def write_plain(
    model_name: str,
    model_version: str,
    id: str,
    parameters: Parameters,
    outputs: Sequence[tuple[str, Datatype, np.ndarray]],
) -> bytes:
    """Return the JSON body of a response whose outputs are finite numbers, or texts, one a row."""
    document = {
        "model_name": model_name,
        "model_version": model_version,
        "id": id,
        "parameters": parameters,
        "outputs": [
            {
                "name": name,
                "shape": values.shape,
                "datatype": datatype,
                "data": values.tolist() if datatype == "BYTES" else np.ascontiguousarray(values),
            }
            for name, datatype, values in outputs
        ],
    }
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
