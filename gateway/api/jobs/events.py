"""Server-sent events of a job."""

from aiohttp import web

from gateway.api.call import Call
from gateway.api.jobs.schemas import EventOptions
from gateway.api.shapes import NoOptions
from gateway.errors import NotFoundError


async def follow_job(call: Call[EventOptions, NoOptions]) -> web.StreamResponse:
    """Stream the events of a job until it ends."""
    raise NotFoundError("there are no jobs yet")
