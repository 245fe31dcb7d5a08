"""The routes of KServe v2, once, as `routes/table.py` takes them up."""

from typing import Final

from pydantic import BaseModel

from gateway.api.context import Handler
from gateway.api.kserve import routes, schemas
from gateway.api.route import Bodies, Route

_BINARY: Final = "application/octet-stream"
_ASKS: Final = ("invalid_request", "inference_unavailable", "timeout")
_NAMED: Final = (*_ASKS, "not_found")
_INFERS: Final = (*_NAMED, "image_too_large", "unsupported_media_type", "invalid_image")
_MODEL: Final = "/v2/models/{model}"
_VERSION: Final = f"{_MODEL}/versions/{{version}}"
_TENSORS: Final = Bodies({"application/json": schemas.InferIn, _BINARY: None})


def _get(
    path: str, handler: Handler, summary: str, description: str, shape: type[BaseModel]
) -> Route:
    errors = _NAMED if path.startswith(_MODEL) else _ASKS
    return Route("GET", path, handler, "kserve", summary, description, {200: shape}, errors=errors)


def _infer(path: str, handler: Handler, summary: str) -> Route:
    return Route(
        "POST",
        path,
        handler,
        "kserve",
        summary,
        "Inputs and outputs as JSON, or in binary form behind it (binary tensor data extension; "
        "`Inference-Header-Content-Length` is the length of the JSON). IMAGE is checked as "
        "everywhere. `Content-Encoding` may be gzip or deflate; the answer is packed if "
        "`Accept-Encoding` names either. Shared memory and classification are not offered.",
        {200: schemas.InferOut},
        fields=_TENSORS,
        errors=_INFERS,
        more_media=(_BINARY,),
    )


KSERVE_ROUTES: Final = (
    _get(
        "/v2",
        routes.server_metadata,
        "KServe v2: the server",
        "Triton's name and version, and the extensions of the protocol that are offered here.",
        schemas.ServerMetadataOut,
    ),
    _get(
        "/v2/health/live",
        routes.server_live,
        "KServe v2: is Triton alive?",
        "503 where it is not.",
        schemas.ServerLiveOut,
    ),
    _get(
        "/v2/health/ready",
        routes.server_ready,
        "KServe v2: are all models ready?",
        "503 where one is not.",
        schemas.ServerReadyOut,
    ),
    _get(
        _MODEL,
        routes.model_metadata,
        "KServe v2: a model",
        "Versions and tensors. Models are the ensembles `face_pipeline` and "
        "`face_pipeline_unscored`, and the networks `face_detection`, `face_embedding` and "
        "`face_scoring`. Where scoring is switched off, all that shows scores is left out.",
        schemas.ModelMetadataOut,
    ),
    _get(
        _VERSION,
        routes.version_metadata,
        "KServe v2: a version of a model",
        "As of the model.",
        schemas.ModelMetadataOut,
    ),
    _get(
        f"{_MODEL}/ready",
        routes.model_ready,
        "KServe v2: is a model ready?",
        "503 where it is not.",
        schemas.ModelReadyOut,
    ),
    _get(
        f"{_VERSION}/ready",
        routes.version_ready,
        "KServe v2: is a version ready?",
        "503 where it is not.",
        schemas.ModelReadyOut,
    ),
    _get(
        f"{_MODEL}/config",
        routes.model_config,
        "KServe v2: configuration of a model",
        "As Triton has it.",
        schemas.ModelConfigOut,
    ),
    _get(
        f"{_VERSION}/config",
        routes.version_config,
        "KServe v2: configuration of a version",
        "As Triton has it.",
        schemas.ModelConfigOut,
    ),
    _infer(f"{_MODEL}/infer", routes.model_infer, "KServe v2: run a model"),
    _infer(f"{_VERSION}/infer", routes.version_infer, "KServe v2: run a version of a model"),
)
