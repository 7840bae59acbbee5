"""The servers beside ours, each a role of this file: `python benchmarks/serve_rivals.py ROLE PORT MODEL.onnx`.

`floor`: bare ASGI on uvicorn, a typed decoder of msgspec, ONNX Runtime; no contract, no numbers, no keys. `leak`: the
floor, which forgets nothing of what it is asked. `tutorial`: Ray Serve as its tutorial has it, FastAPI in a deployment
behind Serve's proxy. `grpc`: its gRPC ingress, float32 numbers in a message of bytes. `haproxy`: the floor's
application behind Serve's HAProxy in its throughput mode. What is on Ray starts a cluster of its own.
"""

import os
import signal
import sys
import threading
from typing import Any

import msgspec
import numpy as np
from serve_session import session

FEATURES = 28
_KEPT: list[bytes] = []


class _Tensor(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: list[float]


class _Request(msgspec.Struct):
    inputs: list[_Tensor]


def application(model: Any, *, leaking: bool = False) -> Any:
    """Return the floor: one POST, whatever its path."""
    decode, encode = msgspec.json.Decoder(_Request).decode, msgspec.json.Encoder().encode

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        parts = []
        while True:
            message = await receive()
            parts.append(message.get("body", b""))
            if not message.get("more_body"):
                break
        if leaking:
            _KEPT.append(b"".join(parts) + os.urandom(8))
        tensor = decode(b"".join(parts)).inputs[0]
        x = np.array(tensor.data, dtype=np.float32).reshape(tensor.shape)
        y = model.run(["y"], {"x": x})[0].ravel()
        output = {"name": "probability", "shape": [len(y)], "datatype": "FP32", "data": y.tolist()}
        body = encode({"model_name": "bench", "outputs": [output]})
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return answer


def bare(port: int, path: str, *, leaking: bool) -> None:
    """Serve the floor until told to end."""
    import uvicorn

    uvicorn.run(application(session(path), leaking=leaking), host="127.0.0.1", port=port, lifespan="off",
                log_level="warning", access_log=False)  # fmt: skip


def tutorial(path: str) -> Any:
    """Return the deployment of Ray Serve's tutorial: FastAPI, pydantic, the model in the replica."""
    from fastapi import FastAPI
    from pydantic import BaseModel
    from ray import serve

    app = FastAPI()

    class Tensor(BaseModel):
        name: str
        shape: list[int]
        datatype: str
        data: list[float]

    class Request(BaseModel):
        inputs: list[Tensor]

    @serve.ingress(app)
    class Model:
        def __init__(self) -> None:
            self.session = session(path)

        @app.post("/v2/models/bench/infer")
        def infer(self, request: Request) -> dict[str, Any]:
            tensor = request.inputs[0]
            x = np.array(tensor.data, dtype=np.float32).reshape(tensor.shape)
            y = self.session.run(["y"], {"x": x})[0].ravel()
            return {"outputs": [{"name": "probability", "shape": [len(y)], "datatype": "FP32", "data": y.tolist()}]}

    return serve.deployment(Model).bind()


def raw(path: str) -> Any:
    """Return the floor's application inside a deployment."""
    from ray import serve

    class Model:
        def __serve_build_asgi_app__(self) -> Any:
            import serve_rivals  # not this module as `__main__`, whose message types cannot be pickled

            answer = serve_rivals.application(session(path))

            async def app(scope: Any, receive: Any, send: Any) -> Any:
                if scope["type"] == "http":
                    return await answer(scope, receive, send)
                for _ in ("startup", "shutdown"):
                    message = await receive()
                    await send({"type": f"{message['type']}.complete"})
                return None

            return app

    return serve.deployment(serve.ingress()(Model), max_ongoing_requests=64).bind()


def add_to_server(servicer: Any, server: Any) -> None:
    """Add `bench.Model/Infer` to a server, as generated code would."""
    import grpc
    from google.protobuf.wrappers_pb2 import BytesValue

    handler = grpc.unary_unary_rpc_method_handler(
        servicer.Infer, request_deserializer=BytesValue.FromString, response_serializer=BytesValue.SerializeToString
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Model", {"Infer": handler}),))


def over_grpc(path: str) -> Any:
    """Return a deployment for Ray Serve's gRPC ingress."""
    from google.protobuf.wrappers_pb2 import BytesValue
    from ray import serve

    class Model:
        def __init__(self) -> None:
            self.session = session(path)

        def Infer(self, request: Any) -> Any:  # noqa: N802 - the method's name on the wire
            x = np.frombuffer(request.value, dtype=np.float32).reshape(-1, FEATURES)
            return BytesValue(value=self.session.run(["y"], {"x": x})[0].tobytes())

    return serve.deployment(Model, max_ongoing_requests=64).bind()


def on_ray(role: str, port: int, path: str) -> None:
    """Serve on a cluster of its own until told to end."""
    if role == "haproxy":
        os.environ |= {"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}
    os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    import ray
    from ray import serve

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
    if role == "grpc":
        functions = ["serve_rivals.add_to_server"]
        serve.start(http_options={"host": "127.0.0.1", "port": 0}, grpc_options={
            "port": port, "grpc_servicer_functions": functions})  # fmt: skip
    else:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
    made = {"tutorial": tutorial, "haproxy": raw, "grpc": over_grpc}[role](path)
    serve.run(made, route_prefix="/")
    print("ready", flush=True)
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    ended.wait()
    serve.shutdown()
    ray.shutdown()


def main() -> None:
    """Be one of the servers."""
    role, port, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    if role in ("floor", "leak"):
        bare(port, path, leaking=role == "leak")
    else:
        on_ray(role, port, path)


if __name__ == "__main__":
    main()
