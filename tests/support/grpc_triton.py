"""A Triton over real gRPC whose answers are written down: for retries, errors and versions."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
from tritonclient.grpc import service_pb2, service_pb2_grpc

from triton_python_backend import contract

_DTYPES = {"FP32": np.float32, "UINT8": np.uint8, "INT64": np.int64}

_OPTIONS = {"max_faces", "rotation", "detail"}


@dataclass
class Script:
    """What the server does; tests change it while it runs.

    versions: id by stage and version. serving: the version whose id the ensemble answers with.
    failures: status and text of the next answers. calls: model, version and outputs asked for.
    """

    versions: dict[str, dict[str, int]] = field(
        default_factory=lambda: {
            "face_detection": {"1": 11},
            "face_embedding": {"1": 21},
            "face_scoring": {"1": 31},
        }
    )
    serving: dict[str, str] = field(default_factory=dict)
    dimension: int = 128
    failures: list[tuple[grpc.StatusCode, str]] = field(default_factory=list)
    seconds: float = 0
    calls: list[tuple[str, str, tuple[str, ...]]] = field(default_factory=list)
    parameters: list[dict[str, object]] = field(default_factory=list)
    """Of the calls to an ensemble."""
    questions: list[tuple[str, Any]] = field(default_factory=list)
    """Calls about the server and its models: name and message."""
    inferred: list[Any] = field(default_factory=list)
    called: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: int = 0

    def id_of(self, stage: str, version: str = "") -> int:
        known = self.versions[stage]
        return known[version or self.serving.get(stage) or max(known)]

    def asked(self, model: str) -> list[tuple[str, ...]]:
        return [outputs for name, _, outputs in self.calls if name == model]


class _Service(service_pb2_grpc.GRPCInferenceServiceServicer):
    def __init__(self, script: Script) -> None:
        self._script = script

    async def RepositoryIndex(self, request: Any, context: Any) -> Any:  # noqa: N802 - named by gRPC
        answer = service_pb2.RepositoryIndexResponse()
        for stage in contract.STAGES:
            for version in self._script.versions.get(stage.name, {"1": 0}):
                answer.models.add(name=stage.name, version=version, state="READY")
        answer.models.add(name="something_else", version="7", state="READY")
        return answer

    async def ServerLive(self, request: Any, context: Any) -> Any:  # noqa: N802 - named by gRPC
        self._script.questions.append(("ServerLive", request))
        return service_pb2.ServerLiveResponse(live=True)

    async def ServerReady(self, request: Any, context: Any) -> Any:  # noqa: N802 - named by gRPC
        self._script.questions.append(("ServerReady", request))
        return service_pb2.ServerReadyResponse(ready=True)

    async def ServerMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802 - named by gRPC
        extensions = ["parameters", "model_repository", "statistics", "binary_tensor_data"]
        return service_pb2.ServerMetadataResponse(name="triton", extensions=extensions)

    async def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802 - named by gRPC
        self._script.questions.append(("ModelReady", request))
        return service_pb2.ModelReadyResponse(ready=True)

    async def ModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802 - named by gRPC
        stage = {stage.name: stage for stage in contract.STAGES}[request.name]
        answer = service_pb2.ModelMetadataResponse(name=stage.name)
        for tensor in stage.outputs:
            answer.outputs.add(name=tensor.name)
        return answer

    async def ModelConfig(self, request: Any, context: Any) -> Any:  # noqa: N802 - named by gRPC
        answer = service_pb2.ModelConfigResponse()
        answer.config.name = request.name
        return answer

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802 - named by gRPC
        script = self._script
        script.inferred.append(request)
        outputs = tuple(output.name for output in request.outputs)
        script.calls.append((request.model_name, request.model_version, outputs))
        # the gateway learns ids from single stages on its own; an image goes to the ensemble
        if request.model_name.startswith("face_pipeline"):
            script.called.set()
            given = {name: each for name, each in request.parameters.items() if name in _OPTIONS}
            script.parameters.append(
                {
                    name: getattr(each, each.WhichOneof("parameter_choice"))
                    for name, each in given.items()
                }
            )
        try:
            await asyncio.sleep(script.seconds)
        except asyncio.CancelledError:
            script.cancelled += 1
            raise
        if script.failures:
            await context.abort(*script.failures.pop(0))
        shapes = [list(entry.shape) for entry in request.inputs]
        if request.model_name == "face_scoring" and shapes[0][1] != script.dimension:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "unexpected shape")
        stage = {stage.name: stage for stage in contract.STAGES}[request.model_name]
        answer = service_pb2.ModelInferResponse(model_name=request.model_name, id=request.id)
        for tensor in stage.outputs:
            if tensor.name in outputs:
                array = self._value(request, tensor)
                answer.outputs.add(name=tensor.name, datatype=tensor.dtype, shape=array.shape)
                answer.raw_output_contents.append(array.tobytes())
        return answer

    def _value(self, request: Any, tensor: contract.Tensor) -> npt.NDArray[Any]:
        """One row of ones, or the id where the output is one."""
        for stage, output in contract.ID_OUTPUT.items():
            if tensor.name == output:
                version = request.model_version if request.model_name == stage else ""
                return np.array([self._script.id_of(stage, version)], dtype=np.int64)
        dims = [1 if number == 0 else dim for number, dim in enumerate(tensor.dims)]
        if tensor.name == contract.EMBEDDING:
            dims = [1, self._script.dimension]
        return np.ones(dims, dtype=_DTYPES[tensor.dtype])


@asynccontextmanager
async def running(
    script: Script,
    address: str = "127.0.0.1:0",
    credentials: grpc.ServerCredentials | None = None,
) -> AsyncIterator[str]:
    """Serve the script; yields the address."""
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(_Service(script), server)
    if credentials is None:
        port = server.add_insecure_port(address)
    else:
        port = server.add_secure_port(address, credentials)
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(grace=None)
