"""Bytes and text of values, both ways. Knows nothing of sockets, models or files' meaning."""

from raymlops.codec.canonical import digest, digest_file, digest_folder, dumps
from raymlops.codec.code import code_digest
from raymlops.codec.files import write_aside
from raymlops.codec.oip import (
    Datatype,
    InferRequest,
    InferResponse,
    Parameters,
    Tensor,
    table_to_tensors,
    tensor,
)
from raymlops.codec.oip_rest import parse_request, parse_response, write_request, write_response
from raymlops.codec.plain import Plain, parse_plain, write_plain

__all__ = [
    "Datatype",
    "InferRequest",
    "InferResponse",
    "Parameters",
    "Plain",
    "Tensor",
    "code_digest",
    "digest",
    "digest_file",
    "digest_folder",
    "dumps",
    "parse_plain",
    "parse_request",
    "parse_response",
    "table_to_tensors",
    "tensor",
    "write_aside",
    "write_plain",
    "write_request",
    "write_response",
]
