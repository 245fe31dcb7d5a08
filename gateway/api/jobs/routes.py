"""Jobs: list, show, cancel, retry, pause, resume."""

from gateway.api.call import Answer, Call
from gateway.api.jobs.schemas import JobListOptions, JobOptions
from gateway.api.shapes import NoOptions
from gateway.errors import NotFoundError


async def list_jobs(call: Call[JobListOptions, NoOptions]) -> Answer:
    """List jobs, newest first."""
    raise NotFoundError("there are no jobs yet")


async def show_job(call: Call[JobOptions, NoOptions]) -> Answer:
    """Show a job."""
    raise NotFoundError("there are no jobs yet")


async def cancel_job(call: Call[NoOptions, NoOptions]) -> Answer:
    """Cancel a job."""
    raise NotFoundError("there are no jobs yet")


async def retry_job(call: Call[NoOptions, NoOptions]) -> Answer:
    """Queue the failed images of a job again."""
    raise NotFoundError("there are no jobs yet")


async def pause_job(call: Call[NoOptions, NoOptions]) -> Answer:
    """Start no further images of a job."""
    raise NotFoundError("there are no jobs yet")


async def resume_job(call: Call[NoOptions, NoOptions]) -> Answer:
    """Continue a paused job."""
    raise NotFoundError("there are no jobs yet")
