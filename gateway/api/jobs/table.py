"""The routes of jobs."""

from typing import Final

from gateway.api.audit import Audit
from gateway.api.auth import Permission
from gateway.api.jobs import events, results, routes
from gateway.api.jobs.schemas import (
    EventOptions,
    JobAnswer,
    JobListOptions,
    JobOptions,
    JobResultsOut,
    JobsOut,
    ResultOptions,
)
from gateway.api.jobs.upload_table import UPLOAD_ROUTE
from gateway.api.route import Route

_STORED: Final = ("invalid_request", "storage_unavailable")
_NAMED: Final = (*_STORED, "not_found", "forbidden")
_CHANGES: Final = (*_NAMED, "conflict", "insufficient_storage")
_WAITING: Final = ("rate_limited", "jobs_unavailable")
_JOB: Final = "/api/ml/jobs/{job_id}"
_TAG: Final = "jobs"

JOB_ROUTES: Final = (
    UPLOAD_ROUTE,
    Route(
        method="GET",
        path="/api/ml/jobs",
        handler=routes.list_jobs,
        permission=Permission.INFER,
        tag=_TAG,
        summary="List jobs",
        description="Newest first.",
        responses={200: JobsOut},
        options=JobListOptions,
        errors=_STORED,
    ),
    Route(
        method="GET",
        path=_JOB,
        handler=routes.show_job,
        permission=Permission.INFER,
        tag=_TAG,
        summary="Show a job",
        description="With `wait`, answers when the job has ended or after so many seconds.",
        responses={200: JobAnswer},
        options=JobOptions,
        own_time=True,
        errors=(*_NAMED, *_WAITING),
    ),
    Route(
        method="GET",
        path=f"{_JOB}/results",
        handler=results.show_results,
        audit=Audit(action="show_job_results", kind="stream"),
        permission=Permission.INFER,
        tag=_TAG,
        summary="Show the results of a job",
        description="Each image in the order of the upload, also while the job is running. JSON "
        "comes in pages; NDJSON and CSV are streamed for the whole job.",
        responses={200: JobResultsOut},
        options=ResultOptions,
        own_time=True,
        errors=(*_NAMED, *_WAITING),
        more_media=("application/x-ndjson", "text/csv"),
    ),
    Route(
        method="GET",
        path=f"{_JOB}/events",
        handler=events.follow_job,
        audit=Audit(action="follow_job", kind="stream"),
        permission=Permission.INFER,
        tag=_TAG,
        summary="Follow a job",
        description="Server-sent events: `item` for each image that ends, `job` when state or "
        "counts change. The stream ends after the job; `Last-Event-ID` resumes one that broke "
        "off, and is answered with 204 if nothing follows.",
        responses={200: None, 204: None},
        options=EventOptions,
        own_time=True,
        errors=(*_NAMED, *_WAITING),
        media="text/event-stream",
    ),
    Route(
        method="DELETE",
        path=_JOB,
        handler=routes.cancel_job,
        audit=Audit(action="cancel_job", kind="change"),
        permission=Permission.INFER,
        tag=_TAG,
        summary="Cancel a job",
        description="Results so far are kept until the job expires.",
        responses={200: JobAnswer},
        errors=_CHANGES,
    ),
    Route(
        method="POST",
        path=f"{_JOB}/retry",
        handler=routes.retry_job,
        audit=Audit(action="retry_job", kind="change"),
        permission=Permission.INFER,
        tag=_TAG,
        summary="Retry the failed images of a job",
        description="Their errors are deleted and they are queued again.",
        responses={202: JobAnswer},
        errors=_CHANGES,
    ),
    Route(
        method="POST",
        path=f"{_JOB}/pause",
        handler=routes.pause_job,
        audit=Audit(action="pause_job", kind="change"),
        permission=Permission.INFER,
        tag=_TAG,
        summary="Pause a job",
        description="Images in work are finished, no further ones are started.",
        responses={200: JobAnswer},
        errors=_CHANGES,
    ),
    Route(
        method="POST",
        path=f"{_JOB}/resume",
        handler=routes.resume_job,
        audit=Audit(action="resume_job", kind="change"),
        permission=Permission.INFER,
        tag=_TAG,
        summary="Resume a paused job",
        description="Its remaining images are queued again.",
        responses={200: JobAnswer},
        errors=_CHANGES,
    ),
)
