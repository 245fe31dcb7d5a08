"""KServe v2 over HTTP: the server, its models, inference."""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import orjson
from aiohttp import web

from gateway.api.context import context_of, json_answer, read_options, services_of
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
from gateway.kserve.public import PublicModel, find_model
from gateway.kserve.request import Packed, pack_request, too_large, unpack
from gateway.kserve.upstream import HEAD_BYTES, Answer

_JSON: Final = "application/json"
_BINARY: Final = "application/octet-stream"
_OFFERED: Final = frozenset({"model_configuration", "binary_tensor_data", "parameters"})
"""Extensions of the protocol; Triton has more, which are not offered here."""
_VERSION: Final = re.compile(r"[0-9]{1,18}")
_UNWANTED: Final = re.compile(r"q\s*=\s*0(\.0*)?")
_HEAD_BYTES: Final = re.compile(r"[0-9]{1,12}")
_HEAD_ROOM_BYTES: Final = 64 * 1024
"""The JSON beside one image."""
_CHECKED_AT_ONCE_BYTES: Final = 64 * 1024
"""A body of so many bytes is read in less time than the way to a thread and back takes."""


async def server_live(request: web.Request) -> web.Response:
    """Ask Triton whether it is alive."""
    await _get(request, "/v2/health/live")
    return json_answer(ServerLiveOut(live=True))


async def server_ready(request: web.Request) -> web.Response:
    """Ask Triton whether all of its models are ready."""
    await _get(request, "/v2/health/ready")
    return json_answer(ServerReadyOut(ready=True))


async def server_metadata(request: web.Request) -> web.Response:
    """Name the server and what of the protocol is offered here."""
    metadata = _parse(await _get(request, "/v2"))
    offered = [name for name in metadata.get("extensions", ()) if name in _OFFERED]
    return _json({**metadata, "extensions": offered})


async def model_metadata(request: web.Request) -> web.Response:
    """Name versions and tensors of a model."""
    model = _model(request)
    metadata = _parse(await _get(request, _path(request, model)))
    shown = {tensor.name for tensor in model.outputs}
    outputs = [output for output in metadata.get("outputs", ()) if output.get("name") in shown]
    return _json({**metadata, "outputs": outputs})


async def model_ready(request: web.Request) -> web.Response:
    """Ask whether a model is ready."""
    model = _model(request)
    path = _path(request, model)
    try:
        await _get(request, f"{path}/ready")
    except InferenceUnavailableError:
        # Triton says the same of a version that does not exist; its metadata then are not found
        await _get(request, path)
        raise
    return json_answer(ModelReadyOut(name=model.name, ready=True))


async def model_config(request: web.Request) -> web.Response:
    """Give the configuration of a model, as Triton has it."""
    answer = await _get(request, f"{_path(request, _model(request))}/config")
    return web.Response(body=answer.body, content_type=_JSON)


async def model_infer(request: web.Request) -> web.Response:
    """Run a model."""
    context, services = context_of(request), services_of(request)
    read_options(request, NoOptions)
    model = _model(request)
    path = f"{_path(request, model)}/infer"
    # refused before its body is read: whoever has to go shall cost as little as possible
    services.kserve.check()
    packed = await _read_request(request, model)
    answer = await services.kserve.infer(path, packed, deadline=context.deadline)
    response = web.Response(
        body=answer.body, content_type=_JSON if answer.head_bytes is None else _BINARY
    )
    if answer.head_bytes is not None:
        response.headers[HEAD_BYTES] = str(answer.head_bytes)
    coding = _accepted_coding(request)
    if coding is not None:
        response.enable_compression(coding)
    return response


def _accepted_coding(request: web.Request) -> web.ContentCoding | None:
    """The first coding of `Accept-Encoding` that is known here; `q=0` means that it is refused."""
    for each in request.headers.get("Accept-Encoding", "").lower().split(","):
        name, *parameters = (part.strip() for part in each.split(";"))
        if name in ("gzip", "deflate") and not any(map(_UNWANTED.fullmatch, parameters)):
            return web.ContentCoding(name)
    return None


async def version_metadata(request: web.Request) -> web.Response:
    """As `model_metadata`, of one version."""
    return await model_metadata(request)


async def version_ready(request: web.Request) -> web.Response:
    """As `model_ready`, of one version."""
    return await model_ready(request)


async def version_config(request: web.Request) -> web.Response:
    """As `model_config`, of one version."""
    return await model_config(request)


async def version_infer(request: web.Request) -> web.Response:
    """As `model_infer`, with one version."""
    return await model_infer(request)


async def _get(request: web.Request, path: str) -> Answer:
    read_options(request, NoOptions)
    return await services_of(request).kserve.get(path, deadline=context_of(request).deadline)


def _model(request: web.Request) -> PublicModel:
    settings = services_of(request).settings
    return find_model(request.match_info["model"], scored=settings.scoring == "on")


def _path(request: web.Request, model: PublicModel) -> str:
    """Give Triton's path of the model, or of the version that is named."""
    version = request.match_info.get("version")
    if version is None:
        return f"/v2/models/{model.name}"
    if not _VERSION.fullmatch(version):
        raise NotFoundError("a version is a number")
    return f"/v2/models/{model.name}/versions/{int(version)}"


async def _read_request(request: web.Request, model: PublicModel) -> Packed:
    """Read and check the body within the deadline of the request."""
    context, services = context_of(request), services_of(request)
    settings = services.settings
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
    return await services.workers.run(partial(check), deadline=context.deadline)


def _announced_head(request: web.Request) -> int | None:
    text = request.headers.get(HEAD_BYTES)
    if text is None:
        return None
    if not _HEAD_BYTES.fullmatch(text.strip()):
        raise InvalidRequestError(f"{HEAD_BYTES} must be a number of bytes, not {text[:20]!r}")
    return int(text)


def _parse(answer: Answer) -> Mapping[str, Any]:
    try:
        document = orjson.loads(answer.body)
    except orjson.JSONDecodeError as error:
        raise AurumError("inference failed") from error
    if not isinstance(document, dict):
        raise AurumError("inference failed")
    return document


def _json(document: Mapping[str, Any]) -> web.Response:
    return web.Response(body=orjson.dumps(document), content_type=_JSON)
