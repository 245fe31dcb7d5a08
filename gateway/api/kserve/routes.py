"""KServe v2 over HTTP: the server, its models, inference."""

import re
from collections.abc import Mapping
from typing import Any, Final

import orjson
from aiohttp import web

from gateway.api.call import Answer, Call
from gateway.api.kserve.schemas import ModelReadyOut, ServerLiveOut, ServerReadyOut
from gateway.api.receiving import IncomingBody
from gateway.api.shapes import NoOptions
from gateway.errors import (
    AurumError,
    InferenceUnavailableError,
    InvalidRequestError,
    NotFoundError,
    UnsupportedMediaTypeError,
)
from gateway.images import ImageLimits
from gateway.kserve.public_models import EXTENSIONS, PublicModel, find_model
from gateway.kserve.request import Packed, pack_request, too_large, unpack
from gateway.kserve.upstream import HEAD_BYTES, TritonAnswer

_JSON: Final = "application/json"
_BINARY: Final = "application/octet-stream"
_VERSION: Final = re.compile(r"[0-9]{1,18}")
_UNWANTED: Final = re.compile(r"q\s*=\s*0(\.0*)?")
_HEAD_BYTES: Final = re.compile(r"[0-9]{1,12}")
_HEAD_ROOM_BYTES: Final = 64 * 1024
"""Room for the JSON of one image."""
_CHECKED_AT_ONCE_BYTES: Final = 64 * 1024
"""A body up to this size is checked faster than a thread can be woken."""


async def server_live(call: Call[NoOptions, NoOptions]) -> Answer:
    """Ask Triton whether it is alive."""
    await _get(call, "/v2/health/live")
    return Answer(ServerLiveOut(live=True))


async def server_ready(call: Call[NoOptions, NoOptions]) -> Answer:
    """Ask Triton whether all of its models are ready."""
    await _get(call, "/v2/health/ready")
    return Answer(ServerReadyOut(ready=True))


async def server_metadata(call: Call[NoOptions, NoOptions]) -> web.Response:
    """Show the server and the protocol extensions that the gateway offers."""
    metadata = _parse(await _get(call, "/v2"))
    offered = [name for name in metadata.get("extensions", ()) if name in EXTENSIONS]
    return _json({**metadata, "extensions": offered})


async def model_metadata(call: Call[NoOptions, NoOptions]) -> web.Response:
    """Show versions and tensors of a model."""
    model = _model(call)
    metadata = _parse(await _get(call, _path(call, model)))
    shown = {tensor.name for tensor in model.outputs}
    outputs = [output for output in metadata.get("outputs", ()) if output.get("name") in shown]
    return _json({**metadata, "outputs": outputs})


async def model_ready(call: Call[NoOptions, NoOptions]) -> Answer:
    """Ask whether a model is ready."""
    model = _model(call)
    path = _path(call, model)
    try:
        await _get(call, f"{path}/ready")
    except InferenceUnavailableError:
        # Triton answers the same for a version that does not exist, which has no metadata
        await _get(call, path)
        raise
    return Answer(ModelReadyOut(name=model.name, ready=True))


async def model_config(call: Call[NoOptions, NoOptions]) -> web.Response:
    """Show the configuration of a model, as Triton reports it."""
    answer = await _get(call, f"{_path(call, _model(call))}/config")
    return web.Response(body=answer.body, content_type=_JSON)


async def model_infer(call: Call[NoOptions, NoOptions]) -> web.Response:
    """Run a model."""
    model = _model(call)
    path = f"{_path(call, model)}/infer"
    # before the body is read, so that a refusal costs as little as possible
    call.services.kserve.check()
    packed = await _read_request(call, model)
    # a batch of crops or embeddings counts as one image, too
    await call.services.collections.quotas.charge_images(call.caller.tenant, 1)
    if call.context.admission is not None:
        await call.context.admission.charge_pixels(packed.pixels)
    answer = await call.services.kserve.infer(path, packed, deadline=call.deadline)
    response = web.Response(
        body=answer.body, content_type=_JSON if answer.head_bytes is None else _BINARY
    )
    if answer.head_bytes is not None:
        response.headers[HEAD_BYTES] = str(answer.head_bytes)
    coding = _accepted_coding(call.request)
    if coding is not None:
        response.enable_compression(coding)
    return response


def _accepted_coding(request: web.Request) -> web.ContentCoding | None:
    """Return the first supported coding of `Accept-Encoding`; `q=0` refuses one."""
    for each in request.headers.get("Accept-Encoding", "").lower().split(","):
        name, *parameters = (part.strip() for part in each.split(";"))
        if name in ("gzip", "deflate") and not any(map(_UNWANTED.fullmatch, parameters)):
            return web.ContentCoding(name)
    return None


async def version_metadata(call: Call[NoOptions, NoOptions]) -> web.Response:
    """Like `model_metadata`, for one version."""
    return await model_metadata(call)


async def version_ready(call: Call[NoOptions, NoOptions]) -> Answer:
    """Like `model_ready`, for one version."""
    return await model_ready(call)


async def version_config(call: Call[NoOptions, NoOptions]) -> web.Response:
    """Like `model_config`, for one version."""
    return await model_config(call)


async def version_infer(call: Call[NoOptions, NoOptions]) -> web.Response:
    """Like `model_infer`, for one version."""
    return await model_infer(call)


async def _get(call: Call[NoOptions, NoOptions], path: str) -> TritonAnswer:
    return await call.services.kserve.get(path, deadline=call.deadline)


def _model(call: Call[NoOptions, NoOptions]) -> PublicModel:
    settings = call.services.settings
    return find_model(call.path("model"), scored=settings.scoring == "on")


def _path(call: Call[NoOptions, NoOptions], model: PublicModel) -> str:
    """Return Triton's path of the model, or of the requested version."""
    version = call.request.match_info.get("version")
    if version is None:
        return f"/v2/models/{model.name}"
    if not _VERSION.fullmatch(version):
        raise NotFoundError("the version must be a number")
    return f"/v2/models/{model.name}/versions/{int(version)}"


async def _read_request(call: Call[NoOptions, NoOptions], model: PublicModel) -> Packed:
    """Read and check the body within the deadline of the request."""
    request, settings = call.request, call.services.settings
    kind = request.content_type if "Content-Type" in request.headers else _JSON
    if kind not in (_JSON, _BINARY):
        message = f"content type {kind[:100]}: send {_JSON}, or {_BINARY} with {HEAD_BYTES}"
        raise UnsupportedMediaTypeError(message)
    head_bytes = _announced_head(request)
    most = max(settings.max_tensor_bytes, settings.max_image_bytes + _HEAD_ROOM_BYTES)
    async with IncomingBody(request, most=most, too_many=too_large(most)) as pieces:
        body = await pieces.read()

    def check() -> Packed:
        encoding = request.headers.get("Content-Encoding", "")
        plain = unpack(body, encoding, most=most)
        limits = ImageLimits(settings.max_image_bytes, settings.max_image_megapixels)
        return pack_request(plain, head_bytes=head_bytes, model=model, limits=limits)

    if len(body) <= _CHECKED_AT_ONCE_BYTES and "Content-Encoding" not in request.headers:
        return check()
    return await call.services.cpu_pool.run(check, deadline=call.deadline)


def _announced_head(request: web.Request) -> int | None:
    text = request.headers.get(HEAD_BYTES)
    if text is None:
        return None
    if not _HEAD_BYTES.fullmatch(text.strip()):
        raise InvalidRequestError(f"{HEAD_BYTES} must be a number of bytes, got {text[:20]!r}")
    return int(text)


def _parse(answer: TritonAnswer) -> Mapping[str, Any]:
    try:
        document = orjson.loads(answer.body)
    except orjson.JSONDecodeError as error:
        raise AurumError("inference failed") from error
    if not isinstance(document, dict):
        raise AurumError("inference failed")
    return document


def _json(document: Mapping[str, Any]) -> web.Response:
    return web.Response(body=orjson.dumps(document), content_type=_JSON)
