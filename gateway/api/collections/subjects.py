"""The subjects of a collection: list, show, change, forget."""

import time
from typing import Final

from aiohttp import web

from gateway.api.body import BodySpec, read_body
from gateway.api.collections.routes import actor_of, collection_of
from gateway.api.collections.serializers import receipt_out, subject_out
from gateway.api.collections.subject_schemas import (
    SubjectAnswer,
    SubjectChange,
    SubjectListOptions,
    SubjectsOut,
)
from gateway.api.context import context_of, json_answer, read_options, services_of
from gateway.api.pagination import read_cursor, write_cursor
from gateway.api.shapes import NoOptions
from gateway.collections.base import check_metadata
from gateway.collections.names import subject_name
from gateway.errors import NotFoundError
from gateway.records.types import CollectionRecord, SubjectRecord

SUBJECT_BODY: Final = BodySpec(SubjectChange, "none")


async def list_subjects(request: web.Request) -> web.Response:
    """List subjects by name, or those that a text fits."""
    options = read_options(request, SubjectListOptions)
    record = await collection_of(request)
    after = read_cursor(options.cursor, str)
    found = await services_of(request).collections.stores.records.subjects.page(
        record.id,
        at=time.time(),
        limit=options.limit + 1,
        after=None if after is None else after[0],
        text=options.q,
    )
    page = found[: options.limit]
    answer = SubjectsOut(
        request_id=context_of(request).request_id,
        subjects=[subject_out(subject) for subject in page],
        next_cursor=write_cursor(page[-1].name) if len(found) > options.limit else None,
    )
    return json_answer(answer)


async def show_subject(request: web.Request) -> web.Response:
    """Show one subject."""
    read_options(request, NoOptions)
    record = await collection_of(request)
    name = _name(request, record)
    records = services_of(request).collections.stores.records.subjects
    return _answer(request, record, await records.get(record.id, name, at=time.time()))


async def change_subject(request: web.Request) -> web.Response:
    """Change what was sent of a subject's record."""
    body = await read_body(request, SUBJECT_BODY, SubjectChange)
    record = await collection_of(request)
    name = _name(request, record)
    collections = services_of(request).collections
    fields = body.fields.model_dump()
    entries = collections.limits.max_metadata_entries
    fields["metadata"] = check_metadata(fields["metadata"], max_entries=entries)
    changes = {field: fields[field] for field in body.given}
    records = collections.stores.records.subjects
    changed = await records.change(record.id, name, changes, at=time.time())
    return _answer(request, record, changed)


async def forget_subject(request: web.Request) -> web.Response:
    """Forget a subject: its record and all its faces."""
    read_options(request, NoOptions)
    record = await collection_of(request)
    forgetting = services_of(request).collections.forgetting
    receipt = await forgetting.subject(record, _name(request, record), actor_of(request))
    return json_answer(receipt_out(receipt, request_id=context_of(request).request_id))


def _name(request: web.Request, record: CollectionRecord) -> str:
    """The subject that the path names, in the form in which names are kept."""
    name = request.match_info["subject"]
    try:
        return subject_name(name)
    except ValueError as error:
        raise _missing(record, name) from error


def _answer(
    request: web.Request, record: CollectionRecord, subject: SubjectRecord | None
) -> web.Response:
    if subject is None:
        raise _missing(record, request.match_info["subject"])
    shape = subject_out(subject)
    return json_answer(
        SubjectAnswer(**shape.model_dump(), request_id=context_of(request).request_id)
    )


def _missing(record: CollectionRecord, name: str) -> NotFoundError:
    return NotFoundError(f"there is no subject {name[:128]!r} in {record.name}")
