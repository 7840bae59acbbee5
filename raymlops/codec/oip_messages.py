"""The messages of `inference.GRPCInferenceService`, the Open Inference Protocol v2 over gRPC. Knows nothing of values.

They lie in a pool of their own: a process may hold Triton's or KServe's client too, whose messages have the same names.
KServe's `grpc_predict_v2.proto` defines them; `double_param`, `uint64_param` and the repository are Triton's additions.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

__all__ = ["METHODS", "SERVICE", "message"]

SERVICE = "inference.GRPCInferenceService"
METHODS = (
    "ServerLive",
    "ServerReady",
    "ModelReady",
    "ServerMetadata",
    "ModelMetadata",
    "ModelInfer",
    "RepositoryIndex",
    "RepositoryModelLoad",
    "RepositoryModelUnload",
)

# Fields are numbered from 1 in the order in which they stand; `*` is repeated, `{}` a map from text, `|` one of many.
_MESSAGES = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "bool live",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "bool ready",
    "ModelReadyRequest": "string name, string version",
    "ModelReadyResponse": "bool ready",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "string name, string version, string* extensions",
    "ModelMetadataRequest": "string name, string version",
    "ModelMetadataResponse": "string name, string* versions, string platform, ModelMetadataResponse.TensorMetadata* "
    "inputs, ModelMetadataResponse.TensorMetadata* outputs",
    "ModelMetadataResponse.TensorMetadata": "string name, string datatype, int64* shape",
    "InferParameter": "bool| bool_param, int64| int64_param, string| string_param, double| double_param, "
    "uint64| uint64_param",
    "InferTensorContents": "bool* bool_contents, int32* int_contents, int64* int64_contents, uint32* uint_contents, "
    "uint64* uint64_contents, float* fp32_contents, double* fp64_contents, bytes* bytes_contents",
    "ModelInferRequest": "string model_name, string model_version, string id, InferParameter{} parameters, "
    "ModelInferRequest.InferInputTensor* inputs, ModelInferRequest.InferRequestedOutputTensor* outputs, "
    "bytes* raw_input_contents",
    "ModelInferRequest.InferInputTensor": "string name, string datatype, int64* shape, InferParameter{} parameters, "
    "InferTensorContents contents",
    "ModelInferRequest.InferRequestedOutputTensor": "string name, InferParameter{} parameters",
    "ModelInferResponse": "string model_name, string model_version, string id, InferParameter{} parameters, "
    "ModelInferResponse.InferOutputTensor* outputs, bytes* raw_output_contents",
    "ModelInferResponse.InferOutputTensor": "string name, string datatype, int64* shape, InferParameter{} parameters, "
    "InferTensorContents contents",
    "ModelRepositoryParameter": "bool| bool_param, int64| int64_param, string| string_param, bytes| bytes_param",
    "RepositoryIndexRequest": "string repository_name, bool ready",
    "RepositoryIndexResponse": "RepositoryIndexResponse.ModelIndex* models",
    "RepositoryIndexResponse.ModelIndex": "string name, string version, string state, string reason",
    "RepositoryModelLoadRequest": "string repository_name, string model_name, ModelRepositoryParameter{} parameters",
    "RepositoryModelLoadResponse": "",
    "RepositoryModelUnloadRequest": "string repository_name, string model_name, ModelRepositoryParameter{} parameters",
    "RepositoryModelUnloadResponse": "",
}
_Field = descriptor_pb2.FieldDescriptorProto


@lru_cache(maxsize=len(_MESSAGES))
def message(name: str) -> Any:
    """Return the class of a message: `ModelInferRequest`, or `ModelMetadataResponse.TensorMetadata` for a nested one.

    >>> message("ServerLiveResponse")(live=True).SerializeToString()
    b'\\x08\\x01'
    """
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"inference.{name}"))


@lru_cache(maxsize=1)
def _pool() -> descriptor_pool.DescriptorPool:
    file = descriptor_pb2.FileDescriptorProto(name="grpc_service.proto", package="inference", syntax="proto3")
    made: dict[str, Any] = {}
    for name, fields in _MESSAGES.items():
        outer, _, inner = name.rpartition(".")
        made[name] = (made[outer].nested_type if outer else file.message_type).add(name=inner)
        for number, field in enumerate(_fields(name, fields, made[name]), start=1):
            made[name].field.add(number=number, **field)
    service = file.service.add(name=SERVICE.partition(".")[2])
    for method in METHODS:
        service.method.add(
            name=method, input_type=f".inference.{method}Request", output_type=f".inference.{method}Response"
        )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


def _fields(owner: str, fields: str, made: Any) -> Iterator[dict[str, Any]]:
    for field in filter(None, fields.split(", ")):
        kind, name = field.split()
        plain = kind.rstrip("*{}|")
        label = _Field.LABEL_REPEATED if kind[-1] in "*}" else _Field.LABEL_OPTIONAL
        typed = {"name": name, "label": label, **_type(plain)}
        if kind.endswith("{}"):
            # A map is a repeated message of key and value, which lies within its owner.
            entry = made.nested_type.add(name="ParametersEntry")
            entry.options.map_entry = True
            entry.field.add(name="key", number=1, label=_Field.LABEL_OPTIONAL, type=_Field.TYPE_STRING)
            entry.field.add(name="value", number=2, label=_Field.LABEL_OPTIONAL, **_type(plain))
            typed |= _type(f"{owner}.ParametersEntry")
        if kind.endswith("|"):
            if not made.oneof_decl:
                made.oneof_decl.add(name="parameter_choice")
            typed |= {"oneof_index": 0}
        yield typed


def _type(name: str) -> dict[str, Any]:
    if name[0].isupper():
        return {"type": _Field.TYPE_MESSAGE, "type_name": f".inference.{name}"}
    return {"type": getattr(_Field, f"TYPE_{name.upper()}")}
