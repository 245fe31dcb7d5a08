"""Every route, once: what answers it and what the OpenAPI document says of it."""

from typing import Final

from gateway.api import docs
from gateway.api.collections.table import COLLECTION_ROUTES
from gateway.api.faces.routes import IMAGE_FIELDS, PAIR_FIELDS, detect, embed, score, verify
from gateway.api.faces.schemas import FaceOptions, FacesOut, VerifyOptions, VerifyOut
from gateway.api.health import routes as health
from gateway.api.health.schemas import LiveOut, ReadyOut
from gateway.api.kserve.table import KSERVE_ROUTES
from gateway.api.models.routes import candidate, models
from gateway.api.models.schemas import CandidateOut, StagesOut
from gateway.api.route import Route

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
        score,
        "faces",
        "Rate the faces of an image",
        "Answers with the faces, largest first, each with its score. An image without a face is "
        "422 `no_face`. Where scoring is switched off, `score` and `score_range` are absent.",
        {200: FacesOut},
        FaceOptions,
        IMAGE_FIELDS,
        (*_IMAGE_ERRORS, "no_face"),
    ),
    Route(
        "POST",
        "/api/ml/detect",
        detect,
        "faces",
        "Find the faces of an image",
        "As `/api/ml/score` without the score. An image without a face is 200 with `faces: []`.",
        {200: FacesOut},
        FaceOptions,
        IMAGE_FIELDS,
        _IMAGE_ERRORS,
    ),
    Route(
        "POST",
        "/api/ml/embed",
        embed,
        "faces",
        "Embed the faces of an image",
        "Each face carries its `embedding`, a unit vector; `models.space` names the space it lives "
        "in. An image without a face is 200 with `faces: []`.",
        {200: FacesOut},
        FaceOptions,
        IMAGE_FIELDS,
        _IMAGE_ERRORS,
    ),
    Route(
        "POST",
        "/api/ml/verify",
        verify,
        "faces",
        "Compare the faces of two images",
        "The largest face of each counts. `match` is `similarity >= threshold`. An image without a "
        "face is 422 `no_face`, whose `detail` names the image.",
        {200: VerifyOut},
        VerifyOptions,
        PAIR_FIELDS,
        (*_IMAGE_ERRORS, "no_face"),
    ),
    Route(
        "GET",
        "/api/ml/models",
        models,
        "models",
        "List stages and versions",
        "Every stage of the ensemble with its versions, as the inference server has them, and what "
        "the importer wrote down of their weights.",
        {200: StagesOut},
        errors=("invalid_request", "inference_unavailable", "timeout"),
    ),
    Route(
        "GET",
        "/api/ml/models/candidate",
        candidate,
        "models",
        "Show the version being tried",
        "The version that answers a share of the requests, or runs in the shadow, beside the one "
        "in service: latency, errors, faces found and differences, as this process counted them.",
        {200: CandidateOut},
        errors=("invalid_request",),
    ),
    *COLLECTION_ROUTES,
    *KSERVE_ROUTES,
    Route(
        "GET",
        "/api/health/live",
        health.live,
        "health",
        "Is the process alive?",
        "Touches nothing else.",
        {200: LiveOut},
        errors=("invalid_request",),
    ),
    Route(
        "GET",
        "/api/health/ready",
        health.ready,
        "health",
        "Can it answer?",
        "Names each part and whether it is ready, of each stage the version that answers and all "
        "that the inference server knows of. A part that faces are found without (cache, vectors, "
        "records, portrait) is `degraded` at worst, and the service stays ready.",
        {200: ReadyOut, 503: ReadyOut},
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
