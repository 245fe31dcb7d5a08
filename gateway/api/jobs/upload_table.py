"""The route that creates jobs."""

from typing import Final

from gateway.api.audit import Audit
from gateway.api.auth import Permission
from gateway.api.jobs import upload
from gateway.api.jobs.schemas import JobAnswer
from gateway.api.jobs.upload_schemas import BatchForm, BatchIn, BatchOptions
from gateway.api.route import Bodies, Route

UPLOAD_ROUTE: Final = Route(
    method="POST",
    path="/api/ml/score/batch",
    handler=upload.create_job,
    audit=Audit(action="create_job", kind="change"),
    permission=Permission.INFER,
    tag="jobs",
    summary="Create a job of many images",
    description="Answers when all images have arrived and are stored; workers then do the "
    "operation with each of them. Send a form with the files, archives among them; a ZIP, tar or "
    "tar.gz as the body; or JSON. An image that is too large or none of the supported formats ends "
    "as an error without stopping the others; files in archives that are no images are skipped and "
    "counted. An archive with links, paths that lead out of it, archives within it, encryption, or "
    "contents far larger than itself is refused as a whole. `operation=enrol` needs the permission "
    "`enrol`. With an `Idempotency-Key` header an upload that is repeated with the same names, "
    "images and options gets the first answer again, for a day.",
    responses={200: JobAnswer, 202: JobAnswer},
    options=BatchOptions,
    fields=Bodies(
        {
            "multipart/form-data": BatchForm,
            "application/json": BatchIn,
            "application/zip": None,
            "application/x-tar": None,
            "application/gzip": None,
        }
    ),
    own_time=True,
    errors=(
        "invalid_request",
        "forbidden",
        "not_found",
        "conflict",
        "image_too_large",
        "unsupported_media_type",
        "invalid_image",
        "image_url_refused",
        "inference_unavailable",
        "jobs_unavailable",
        "storage_unavailable",
        "timeout",
        "insufficient_storage",
    ),
)
