"""The results of a job: a page of JSON, or all of them as a stream of NDJSON or CSV."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from aiohttp import web

from gateway.api.call import Answer, Call
from gateway.api.context import dump_json
from gateway.api.jobs import csv_table
from gateway.api.jobs.routes import job_of
from gateway.api.jobs.schemas import ItemOut, JobResultsOut, ResultFormat, ResultOptions
from gateway.api.jobs.serializers import item_out
from gateway.api.pagination import read_cursor, write_cursor
from gateway.api.shapes import NoOptions
from gateway.api.streams import STREAMS
from gateway.jobs.service import OpenedItem
from gateway.records.job_types import MAX_NUMBER, JobRecord

MEDIA: Final[dict[ResultFormat, str]] = {
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    "csv": "text/csv",
}
_ACCEPTED: Final[dict[str, ResultFormat]] = {
    **{media: chosen for chosen, media in MEDIA.items()},
    "application/ndjson": "ndjson",
    "application/jsonl": "ndjson",
}
_PAGE_BYTES: Final = 16 << 20
"""A page of JSON ends early when its results have as many bytes."""
_PIECE_BYTES: Final = 64 << 10


async def show_results(call: Call[ResultOptions, NoOptions]) -> Answer | web.StreamResponse:
    """Show the results of a job."""
    job = await job_of(call)
    chosen = call.options.format or accepted_format(call.request.headers.get("Accept", ""))
    if chosen == "json":
        return Answer(await _page(call, job))
    lines = _rows(call, job) if chosen == "csv" else _objects(call, job)
    charset = "; charset=utf-8" if chosen == "csv" else ""
    headers = {
        "Content-Type": MEDIA[chosen] + charset,
        "Content-Disposition": f'attachment; filename="job-{job.id}.{chosen}"',
        "Vary": "Accept",
    }
    return await call.request.app[STREAMS].send(call.request, _gathered(lines), headers=headers)


def accepted_format(accept: str) -> ResultFormat:
    """Return the format that `Accept` prefers; JSON if it names none of them."""
    chosen: ResultFormat = "json"
    best = 0.0
    for part in accept.split(","):
        media, *parameters = (each.strip().lower() for each in part.split(";"))
        found = _ACCEPTED.get(media)
        weight = next((_weight(each[2:]) for each in parameters if each.startswith("q=")), 1.0)
        if found is not None and weight > best:
            best, chosen = weight, found
    return chosen


def _weight(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


async def _page(call: Call[ResultOptions, NoOptions], job: JobRecord) -> JobResultsOut:
    options = call.options
    shapes: list[ItemOut] = []
    size, more = 0, False
    # one more, to see whether there is a next page
    items = call.services.jobs.items(
        job, after=_after(options), limit=options.limit + 1, status=options.status
    )
    async with aclosing(items):
        async for opened in items:
            if len(shapes) == options.limit or size >= _PAGE_BYTES:
                more = True
                break
            shapes.append(item_out(opened))
            size += len(opened.answer or b"")
    return JobResultsOut(
        request_id=call.request_id,
        job_id=job.id,
        results=shapes,
        next_cursor=write_cursor(shapes[-1].index) if more else None,
    )


def _after(options: ResultOptions) -> int:
    position = read_cursor(options.cursor, int)
    return -1 if position is None else max(-1, min(int(position[0]), MAX_NUMBER))


def _all(call: Call[ResultOptions, NoOptions], job: JobRecord) -> AsyncGenerator[OpenedItem, None]:
    options = call.options
    limit = options.limit if "limit" in options.model_fields_set else None
    return call.services.jobs.items(job, after=_after(options), limit=limit, status=options.status)


async def _objects(
    call: Call[ResultOptions, NoOptions], job: JobRecord
) -> AsyncGenerator[bytes, None]:
    async with aclosing(_all(call, job)) as items:
        async for opened in items:
            yield dump_json(item_out(opened)) + b"\n"


async def _rows(
    call: Call[ResultOptions, NoOptions], job: JobRecord
) -> AsyncGenerator[bytes, None]:
    async with aclosing(_all(call, job)) as items:
        first = csv_table.header(job.operation)
        async for opened in items:
            yield first + csv_table.row(job.operation, opened)
            first = b""
        if first:
            yield first


async def _gathered(lines: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Join short lines, which saves a write for each."""
    piece = bytearray()
    async with aclosing(lines):
        async for line in lines:
            piece += line
            if len(piece) >= _PIECE_BYTES:
                yield bytes(piece)
                piece.clear()
    if piece:
        yield bytes(piece)
