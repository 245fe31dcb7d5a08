"""The routes of KServe v2."""

from typing import Final

from pydantic import BaseModel

from gateway.api.auth import Permission
from gateway.api.call import RouteHandler
from gateway.api.kserve import routes, schemas
from gateway.api.route import Bodies, Route

_BINARY: Final = "application/octet-stream"
_ASKS: Final = ("invalid_request", "inference_unavailable", "timeout")
_NAMED: Final = (*_ASKS, "not_found")
_INFERS: Final = (*_NAMED, "image_too_large", "unsupported_media_type", "invalid_image")
_MODEL: Final = "/v2/models/{model}"
_TAG: Final = "kserve"
_VERSION: Final = f"{_MODEL}/versions/{{version}}"
_TENSORS: Final = Bodies({"application/json": schemas.InferIn, _BINARY: None})


def _get(
    path: str, handler: RouteHandler, summary: str, description: str, shape: type[BaseModel]
) -> Route:
    errors = _NAMED if path.startswith(_MODEL) else _ASKS
    return Route(
        method="GET",
        path=path,
        handler=handler,
        permission=Permission.INFER,
        tag=_TAG,
        summary=summary,
        description=description,
        responses={200: shape},
        errors=errors,
    )


def _infer(path: str, handler: RouteHandler, summary: str) -> Route:
    return Route(
        method="POST",
        path=path,
        handler=handler,
        permission=Permission.INFER,
        tag=_TAG,
        summary=summary,
        description="Tensors are JSON, or follow the JSON in binary form (binary tensor data "
        "extension; `Inference-Header-Content-Length` is the length of the JSON). IMAGE is "
        "checked as on all routes. `Content-Encoding` may be gzip or deflate; the answer is "
        "compressed if `Accept-Encoding` names either. Shared memory and classification are not "
        "offered.",
        responses={200: schemas.InferOut},
        fields=_TENSORS,
        errors=_INFERS,
        more_media=(_BINARY,),
        # it receives its body itself, and its calls to Triton keep to the deadline
        own_time=True,
    )


KSERVE_ROUTES: Final = (
    _get(
        "/v2",
        routes.server_metadata,
        "KServe v2: the server",
        "Triton's name and version, and the protocol extensions that the gateway offers.",
        schemas.ServerMetadataOut,
    ),
    _get(
        "/v2/health/live",
        routes.server_live,
        "KServe v2: is Triton alive?",
        "503 if it is not.",
        schemas.ServerLiveOut,
    ),
    _get(
        "/v2/health/ready",
        routes.server_ready,
        "KServe v2: are all models ready?",
        "503 if one is not.",
        schemas.ServerReadyOut,
    ),
    _get(
        _MODEL,
        routes.model_metadata,
        "KServe v2: a model",
        "Its versions and tensors. The models are the ensembles `face_pipeline` and "
        "`face_pipeline_unscored`, and the networks `face_detection`, `face_embedding` and "
        "`face_scoring`. If scoring is switched off, models and outputs with scores are left out.",
        schemas.ModelMetadataOut,
    ),
    _get(
        _VERSION,
        routes.version_metadata,
        "KServe v2: a version of a model",
        "Like the model.",
        schemas.ModelMetadataOut,
    ),
    _get(
        f"{_MODEL}/ready",
        routes.model_ready,
        "KServe v2: is a model ready?",
        "503 if it is not.",
        schemas.ModelReadyOut,
    ),
    _get(
        f"{_VERSION}/ready",
        routes.version_ready,
        "KServe v2: is a version ready?",
        "503 if it is not.",
        schemas.ModelReadyOut,
    ),
    _get(
        f"{_MODEL}/config",
        routes.model_config,
        "KServe v2: configuration of a model",
        "As Triton reports it.",
        schemas.ModelConfigOut,
    ),
    _get(
        f"{_VERSION}/config",
        routes.version_config,
        "KServe v2: configuration of a version",
        "As Triton reports it.",
        schemas.ModelConfigOut,
    ),
    _infer(f"{_MODEL}/infer", routes.model_infer, "KServe v2: run a model"),
    _infer(f"{_VERSION}/infer", routes.version_infer, "KServe v2: run a version of a model"),
)
