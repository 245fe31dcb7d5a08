"""Jobs: list, show, cancel, retry, pause, resume."""

from typing import Any

from gateway.api.auth import Permission
from gateway.api.call import Answer, Call
from gateway.api.jobs.schemas import JobListOptions, JobOptions, JobsOut
from gateway.api.jobs.serializers import job_answer, job_out
from gateway.api.pagination import read_page
from gateway.api.shapes import NoOptions
from gateway.api.streams import STREAMS
from gateway.records.job_types import JobRecord


async def job_of(call: Call[Any, Any]) -> JobRecord:
    """Find the job that the path names.

    Raises NotFoundError without one that the caller sees; ForbiddenError for an enrolment if the
    caller may not enrol.
    """
    job = await call.services.jobs.find(call.caller, call.path("job_id"))
    if job.operation == "enrol":
        await call.services.authorizer.authorize(call.request.headers, Permission.ENROL)
    return job


async def list_jobs(call: Call[JobListOptions, NoOptions]) -> Answer:
    """List jobs, newest first."""
    jobs = call.services.jobs
    page = await read_page(
        call.options,
        lambda limit, after: jobs.page(
            call.caller, states=call.options.state, after=after, limit=limit
        ),
        position=lambda job: (job.created_at, job.id),
        kinds=(float, str),
    )
    shapes = [job_out(view) for view in await jobs.views(page.items)]
    return Answer(JobsOut(request_id=call.request_id, jobs=shapes, next_cursor=page.next_cursor))


async def show_job(call: Call[JobOptions, NoOptions]) -> Answer:
    """Show a job, now or when it has ended."""
    job = await job_of(call)
    if call.options.wait and not job.is_finished:
        async with call.request.app[STREAMS].until_stop():
            job = await call.services.jobs.wait(call.caller, job, seconds=call.options.wait)
    return await _answer(call, job)


async def cancel_job(call: Call[NoOptions, NoOptions]) -> Answer:
    """End a job; its results so far stay."""
    job = await call.services.jobs.cancel(call.caller, await job_of(call))
    call.services.uploads.stop(job.id)
    return await _answer(call, job)


async def retry_job(call: Call[NoOptions, NoOptions]) -> Answer:
    """Queue the failed images of a job again."""
    records = call.services.jobs.records.jobs
    job = await records.retry_failed(call.caller.tenant, (await job_of(call)).id)
    return await _answer(call, job, status=202)


async def pause_job(call: Call[NoOptions, NoOptions]) -> Answer:
    """Start no further images of a job."""
    records = call.services.jobs.records.jobs
    return await _answer(call, await records.pause(call.caller.tenant, (await job_of(call)).id))


async def resume_job(call: Call[NoOptions, NoOptions]) -> Answer:
    """Continue a paused job."""
    records = call.services.jobs.records.jobs
    return await _answer(call, await records.resume(call.caller.tenant, (await job_of(call)).id))


async def _answer(call: Call[Any, Any], job: JobRecord, *, status: int = 200) -> Answer:
    view = await call.services.jobs.view(job)
    return Answer(job_answer(view, request_id=call.request_id), status=status)
