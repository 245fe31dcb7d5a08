"""What each call does with its message."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2

from gateway.errors import AurumError
from gateway.grpc.call import GrpcCall
from gateway.grpc.limiting import Admission
from gateway.images import ImageLimits
from gateway.kserve.message import CheckedMessage, check_message, check_version, parse_message
from gateway.kserve.public_models import EXTENSIONS, PublicModel, find_model

_CHECKED_AT_ONCE_BYTES: Final = 64 * 1024
"""A message up to this size is checked faster than a thread can be woken."""
_NOTHING: Final = b""
"""A message whose fields all have their default: not ready, no fields."""


async def server_live(call: GrpcCall, _message: bytes) -> bytes:
    """Ask Triton whether it is alive."""
    return await _ask(call, "ServerLive", _NOTHING)


async def server_ready(call: GrpcCall, _message: bytes) -> bytes:
    """Ask Triton whether all of its models are ready; a gateway that is about to end is not."""
    if call.services.lifecycle.stopping:
        return _NOTHING
    return await _ask(call, "ServerReady", _NOTHING)


async def server_metadata(call: GrpcCall, _message: bytes) -> bytes:
    """Show the server and the protocol extensions that the gateway offers."""
    answer = _parse(
        service_pb2.ServerMetadataResponse, await _ask(call, "ServerMetadata", _NOTHING)
    )
    offered = [name for name in answer.extensions if name in EXTENSIONS]
    answer.ClearField("extensions")
    answer.extensions.extend(offered)
    return _write(answer)


async def model_ready(call: GrpcCall, message: bytes) -> bytes:
    """Ask whether a model is ready."""
    request, _ = _named(call, service_pb2.ModelReadyRequest, message)
    return await _ask(call, "ModelReady", request)


async def model_metadata(call: GrpcCall, message: bytes) -> bytes:
    """Show versions and tensors of a model."""
    request, model = _named(call, service_pb2.ModelMetadataRequest, message)
    answer = _parse(service_pb2.ModelMetadataResponse, await _ask(call, "ModelMetadata", request))
    shown = {tensor.name for tensor in model.outputs}
    outputs = [output for output in answer.outputs if output.name in shown]
    answer.ClearField("outputs")
    answer.outputs.extend(outputs)
    return _write(answer)


async def model_config(call: GrpcCall, message: bytes) -> bytes:
    """Show the configuration of a model, as Triton reports it."""
    request, _ = _named(call, service_pb2.ModelConfigRequest, message)
    return await _ask(call, "ModelConfig", request)


async def infer(call: GrpcCall, message: bytes, admission: Admission) -> bytes:
    """Run a model; the answer is as Triton sends it."""
    services = call.services
    checked = await check(call, message)
    # a batch of crops or embeddings counts as one image, too
    await services.quotas.charge_images(call.caller.tenant, 1)
    await admission.charge_pixels(checked.pixels)
    return await services.triton.infer(checked, deadline=call.deadline)


async def check(call: GrpcCall, message: bytes) -> CheckedMessage:
    """Check a request; raises as `check_message`."""
    settings = call.services.settings
    work: Callable[[], CheckedMessage] = partial(
        check_message,
        message,
        scored=settings.scoring == "on",
        limits=ImageLimits(settings.max_image_bytes, settings.max_image_megapixels),
    )
    if len(message) <= _CHECKED_AT_ONCE_BYTES:
        return work()
    return await call.services.cpu_pool.run(work, deadline=call.deadline)


def streamed(answer: bytes) -> bytes:
    """Wrap an answer for a stream."""
    # the field infer_response: its number and kind, the length, then the message as it is
    return b"\x12" + _varint(len(answer)) + answer


def streamed_error(message: bytes, error: AurumError) -> bytes:
    """Write an error for a stream, which goes on; with the id of its request, if it has one."""
    answer = service_pb2.ModelStreamInferResponse()
    answer.error_message = f"[{error.code}] {error.detail}".encode("utf-8", "replace").decode()
    with suppress(DecodeError):
        answer.infer_response.id = service_pb2.ModelInferRequest.FromString(message).id
    return _write(answer)


async def _ask(call: GrpcCall, method: str, request: bytes) -> bytes:
    return await call.services.triton.ask(method, request, deadline=call.deadline)


def _named(call: GrpcCall, kind: Any, message: bytes) -> tuple[bytes, PublicModel]:
    """Read the model and the version that are asked for; returns what Triton is asked."""
    given = parse_message(kind, message)
    model = find_model(given.name, scored=call.services.settings.scoring == "on")
    return _write(kind(name=model.name, version=check_version(given.version))), model


def _parse(kind: Any, answer: bytes) -> Any:
    try:
        return kind.FromString(answer)
    except DecodeError as error:
        raise AurumError("inference failed") from error


def _write(message: Any) -> bytes:
    written: bytes = message.SerializeToString()
    return written


def _varint(number: int) -> bytes:
    """Write a number as protobuf does, seven bits a byte."""
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)
