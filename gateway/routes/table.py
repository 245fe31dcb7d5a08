"""Rank 4: every route, once: what answers it and what the OpenAPI document says of it."""

from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel

from gateway import schemas
from gateway.routes import docs, health, ml
from gateway.routes.context import Handler
from gateway.routes.uploads import Fields


@dataclass(frozen=True, slots=True)
class Route:
    """One route.

    answers: JSON body by status; None: no JSON (`media` names the type). errors: codes that it may
    answer with beside those that any route may.
    """

    method: str
    path: str
    handler: Handler
    tag: str
    summary: str
    description: str
    answers: dict[int, type[BaseModel] | None]
    options: type[BaseModel] = schemas.NoOptions
    fields: Fields | None = None
    errors: tuple[str, ...] = ()
    media: str = "application/json"


_IMAGE_ERRORS: Final = (
    "invalid_request",
    "image_too_large",
    "unsupported_media_type",
    "invalid_image",
    "inference_unavailable",
    "timeout",
)

ROUTES: Final = (
    Route(
        "POST",
        "/api/ml/score",
        ml.score,
        "faces",
        "Rate the faces of an image",
        "Answers with the faces, largest first, each with its score. An image without a face is "
        "422 `no_face`. Where scoring is switched off, `score` and `score_range` are absent.",
        {200: schemas.FacesOut},
        schemas.FaceOptions,
        ml.IMAGE_FIELDS,
        (*_IMAGE_ERRORS, "no_face"),
    ),
    Route(
        "POST",
        "/api/ml/detect",
        ml.detect,
        "faces",
        "Find the faces of an image",
        "As `/api/ml/score` without the score. An image without a face is 200 with `faces: []`.",
        {200: schemas.FacesOut},
        schemas.FaceOptions,
        ml.IMAGE_FIELDS,
        _IMAGE_ERRORS,
    ),
    Route(
        "POST",
        "/api/ml/embed",
        ml.embed,
        "faces",
        "Embed the faces of an image",
        "Each face carries its `embedding`, a unit vector; `models.space` names the space it lives "
        "in. An image without a face is 200 with `faces: []`.",
        {200: schemas.FacesOut},
        schemas.FaceOptions,
        ml.IMAGE_FIELDS,
        _IMAGE_ERRORS,
    ),
    Route(
        "POST",
        "/api/ml/verify",
        ml.verify,
        "faces",
        "Compare the faces of two images",
        "The largest face of each counts. `match` is `similarity >= threshold`. An image without a "
        "face is 422 `no_face`, whose `detail` names the image.",
        {200: schemas.VerifyOut},
        schemas.VerifyOptions,
        ml.PAIR_FIELDS,
        (*_IMAGE_ERRORS, "no_face"),
    ),
    Route(
        "GET",
        "/api/ml/models",
        ml.models,
        "models",
        "List stages and versions",
        "Every stage of the ensemble with its versions, as the inference server has them, and what "
        "the importer wrote down of their weights.",
        {200: schemas.StagesOut},
        errors=("invalid_request", "inference_unavailable", "timeout"),
    ),
    Route(
        "GET",
        "/api/health/live",
        health.live,
        "health",
        "Is the process alive?",
        "Touches nothing else.",
        {200: schemas.LiveOut},
        errors=("invalid_request",),
    ),
    Route(
        "GET",
        "/api/health/ready",
        health.ready,
        "health",
        "Can it answer?",
        "Names each part that an answer needs and whether it is ready.",
        {200: schemas.ReadyOut, 503: schemas.ReadyOut},
        errors=("invalid_request",),
    ),
    Route(
        "GET",
        "/metrics",
        health.metrics,
        "health",
        "Prometheus metrics",
        "In Prometheus' text format.",
        {200: None},
        media="text/plain",
    ),
    Route(
        "GET",
        "/api/openapi.json",
        docs.document,
        "docs",
        "This document",
        "OpenAPI 3.1.",
        {200: None},
        errors=("invalid_request",),
    ),
    Route(
        "GET",
        "/api/docs",
        docs.page,
        "docs",
        "The page that shows this document",
        "Swagger UI, served from here; it loads nothing from other hosts.",
        {200: None},
        errors=("invalid_request",),
        media="text/html",
    ),
    Route(
        "GET",
        "/api/docs/{name}",
        docs.asset,
        "docs",
        "A file of that page",
        "Scripts, styles and the icon.",
        {200: None},
        errors=("not_found",),
        media="*/*",
    ),
    Route(
        "GET",
        "/",
        docs.root,
        "docs",
        "Start here",
        "Leads to `/api/docs`.",
        {307: None},
        errors=("invalid_request",),
    ),
)
