"""The results of a job: a page of JSON, or all of them as a stream of NDJSON or CSV."""

from aiohttp import web

from gateway.api.call import Answer, Call
from gateway.api.jobs.schemas import ResultOptions
from gateway.api.shapes import NoOptions
from gateway.errors import NotFoundError


async def show_results(call: Call[ResultOptions, NoOptions]) -> Answer | web.StreamResponse:
    """Show the results of a job."""
    raise NotFoundError("there are no jobs yet")
