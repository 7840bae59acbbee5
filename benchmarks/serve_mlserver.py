"""MLServer beside ours: a custom runtime in its process. `python benchmarks/serve_mlserver.py PORT MODEL.onnx`.

Its pool of workers, metrics, compression and access log are off: each makes it slower, and ours has one replica.
"""

import asyncio
import sys

from mlserver import MLModel, MLServer, ModelSettings, Settings  # type: ignore[import-not-found]
from mlserver.codecs import NumpyCodec  # type: ignore[import-not-found]
from mlserver.settings import ModelParameters  # type: ignore[import-not-found]
from mlserver.types import InferenceRequest, InferenceResponse  # type: ignore[import-not-found]
from serve_session import session


class Trees(MLModel):  # type: ignore[misc]
    """The runtime, after MLServer's guide to custom ones."""

    async def load(self) -> bool:
        """Open the model."""
        self.session = session(self.settings.parameters.uri)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer the first tensor."""
        x = NumpyCodec.decode_input(payload.inputs[0])
        (y,) = self.session.run(["y"], {"x": x})
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("probability", y)])


async def _serve(port: int, model: str) -> None:
    # Port 0: the system picks one for gRPC, which nobody asks.
    settings = Settings(debug=False, host="127.0.0.1", http_port=port, grpc_port=0, parallel_workers=0,
                        metrics_endpoint=None, gzip_enabled=False)  # fmt: skip
    trees = ModelSettings(name="bench", implementation=Trees, parameters=ModelParameters(uri=model))
    await MLServer(settings).start([trees])


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), sys.argv[2]))
