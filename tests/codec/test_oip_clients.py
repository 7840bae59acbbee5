"""Triton's own client: what it sends is read as it was meant, and what is answered is read by it."""

from typing import Any

import ml_dtypes
import numpy as np
import pyarrow as pa
import pytest
import tritonclient.grpc as grpc
import tritonclient.http as rest

from raymlops.codec import InferResponse, Tensor, oip_grpc, parse_request, write_response
from raymlops.codec.oip_messages import _MESSAGES, message

ARRAYS: dict[str, np.ndarray] = {
    "BOOL": np.array([[True, False]]),
    "INT8": np.array([[-128, 127]], np.int8),
    "INT16": np.array([[-(2**15), 2]], np.int16),
    "INT32": np.array([[-(2**31), 2]], np.int32),
    "INT64": np.array([[-(2**63), 2**63 - 1]], np.int64),
    "UINT8": np.array([[0, 255]], np.uint8),
    "UINT16": np.array([[0, 2**16 - 1]], np.uint16),
    "UINT32": np.array([[0, 2**32 - 1]], np.uint32),
    "UINT64": np.array([[0, 2**64 - 1]], np.uint64),
    "FP16": np.array([[0.5, 65504]], np.float16),
    "FP32": np.array([[0.1, 3e38]], np.float32),
    "FP64": np.array([[0.1, 1e300]], np.float64),
    "BF16": np.array([[0.1, 3e38]], ml_dtypes.bfloat16),
    "BYTES": np.array([["", "é"]], np.object_),
}
VALUES = {
    name: array.astype(np.float32).ravel().tolist() if name == "BF16" else array.ravel().tolist()
    for name, array in ARRAYS.items()
}


def inputs(client: Any, **options: Any) -> list[Any]:
    made = [client.InferInput(name, list(array.shape), name) for name, array in ARRAYS.items()]
    for given, array in zip(made, ARRAYS.values(), strict=True):
        given.set_data_from_numpy(array, **options)
    return made


def answer() -> InferResponse:
    outputs = []
    for name, values in VALUES.items():
        arrow = {"BOOL": pa.bool_(), "BYTES": pa.string(), "FP16": pa.float16(), "BF16": pa.float32()}.get(name)
        kind = arrow or getattr(pa, name.lower().replace("fp", "float"))()
        data = pa.array(ARRAYS[name].ravel()) if name == "FP16" else pa.array(values, kind)
        outputs.append(Tensor(name=name, shape=(1, 2), datatype=name, data=data))  # type: ignore[arg-type]
    return InferResponse(model_name="m", model_version="3", id="i", outputs=tuple(outputs))


def test_what_its_http_client_sends_in_binary_is_read() -> None:
    body, length = rest.InferenceServerClient.generate_request_body(
        inputs(rest), outputs=[rest.InferRequestedOutput("y")], request_id="i", parameters={"a": 1}
    )
    request = parse_request(body, length)
    assert {t.name: t.data.to_pylist() for t in request.inputs} == VALUES
    assert all(t.shape == (1, 2) and t.datatype == t.name and not t.parameters for t in request.inputs)
    assert (request.id, request.outputs, request.parameters) == ("i", ("y",), {"a": 1})
    assert request.wants_binary("y")


def test_what_its_http_client_sends_in_json_is_read() -> None:
    sent = [rest.InferInput(name, list(array.shape), name) for name, array in ARRAYS.items() if name != "BF16"]
    for given in sent:
        given.set_data_from_numpy(ARRAYS[given.name()], binary_data=False)
    body, length = rest.InferenceServerClient.generate_request_body(sent)
    request = parse_request(body, length)
    assert {t.name: t.data.to_pylist() for t in request.inputs} | {"BF16": VALUES["BF16"]} == VALUES
    assert request.wants_binary("any")  # it asks so when it names no output


@pytest.mark.parametrize("binary", [True, False])
def test_what_is_answered_over_http_is_read_by_its_client(binary: bool) -> None:
    body, length = write_response(answer(), binary=lambda _: binary)
    result = rest.InferResult.from_response_body(body, header_length=length)
    for name, values in VALUES.items():
        read = result.as_numpy(name)
        assert read.shape == (1, 2)
        assert [v.decode() if isinstance(v, bytes) else v for v in read.ravel().tolist()] == values, name


def test_what_its_grpc_client_sends_is_read_and_answered() -> None:
    sent = grpc.service_pb2.ModelInferRequest(model_name="m", model_version="3", id="i")
    for given in inputs(grpc):
        sent.inputs.append(given._get_tensor())
        sent.raw_input_contents.append(given._get_content())
    request, raw = oip_grpc.parse_request(sent.SerializeToString())
    assert raw
    assert {t.name: t.data.to_pylist() for t in request.inputs} == VALUES
    reply = grpc.service_pb2.ModelInferResponse.FromString(oip_grpc.write_response(answer(), raw=raw))
    result = grpc.InferResult(reply)
    for name, values in VALUES.items():
        read = result.as_numpy(name).ravel().tolist()
        assert [v.decode() if isinstance(v, bytes) else v for v in read] == values, name


def test_our_messages_have_the_fields_of_its_own() -> None:
    def fields(descriptor: Any) -> list[Any]:
        return [(f.name, f.number, f.type, f.is_repeated, f.containing_oneof is None) for f in descriptor.fields]

    pool = grpc.service_pb2.DESCRIPTOR.pool
    for name in _MESSAGES:
        assert fields(message(name).DESCRIPTOR) == fields(pool.FindMessageTypeByName(f"inference.{name}")), name
