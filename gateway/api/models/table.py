"""The routes of models."""

from typing import Final

from gateway.api.auth import Permission
from gateway.api.models import routes
from gateway.api.models.schemas import CandidateOut, StagesOut
from gateway.api.route import Route

MODEL_ROUTES: Final = (
    Route(
        method="GET",
        path="/api/ml/models",
        handler=routes.models,
        permission=Permission.INFER,
        tag="models",
        summary="List stages and versions",
        description="Lists the stages of the ensemble with their versions, as the inference "
        "server reports them, and what the importer recorded of their weights.",
        responses={200: StagesOut},
        errors=("invalid_request", "inference_unavailable", "timeout"),
    ),
    Route(
        method="GET",
        path="/api/ml/models/candidate",
        handler=routes.candidate,
        permission=Permission.INFER,
        tag="models",
        summary="Show the version on trial",
        description="Compares the version that answers a share of the requests, or runs in "
        "shadow, with the one in service: latency, errors, faces found and differences, as "
        "counted by this process.",
        responses={200: CandidateOut},
        errors=("invalid_request",),
    ),
)
