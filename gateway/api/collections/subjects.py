"""The subjects of a collection: list, show, change, delete."""

import time
from typing import Any, Final

from gateway.api.body import BodySpec
from gateway.api.call import Answer, Call
from gateway.api.collections.consent import read_consent
from gateway.api.collections.routes import actor_of, collection_of
from gateway.api.collections.serializers import receipt_out, subject_out
from gateway.api.collections.subject_schemas import (
    SubjectAnswer,
    SubjectChange,
    SubjectListOptions,
    SubjectsOut,
)
from gateway.api.pagination import read_page
from gateway.api.shapes import NoOptions
from gateway.collections.base import check_metadata
from gateway.collections.names import subject_name
from gateway.errors import NotFoundError
from gateway.records.types import CollectionRecord, SubjectRecord

SUBJECT_BODY: Final = BodySpec(SubjectChange, "none")


async def list_subjects(call: Call[SubjectListOptions, NoOptions]) -> Answer:
    """List subjects by name, all or those that match a text."""
    record = await collection_of(call)
    records = call.services.collections.stores.records.subjects
    page = await read_page(
        call.options,
        lambda limit, after: records.page(
            record.id,
            at=time.time(),
            limit=limit,
            after=after and after[0],
            text=call.options.q,
        ),
        position=lambda subject: (subject.name,),
    )
    return Answer(
        SubjectsOut(
            request_id=call.request_id,
            subjects=[subject_out(subject) for subject in page.items],
            next_cursor=page.next_cursor,
        )
    )


async def show_subject(call: Call[NoOptions, NoOptions]) -> Answer:
    """Show a subject."""
    record = await collection_of(call)
    name = _name(call, record)
    records = call.services.collections.stores.records.subjects
    return _answer(call, record, await records.get(record.id, name, at=time.time()))


async def change_subject(call: Call[NoOptions, SubjectChange]) -> Answer:
    """Change the sent fields of a subject's record."""
    record = await collection_of(call)
    name = _name(call, record)
    collections = call.services.collections
    fields = call.fields.model_dump()
    fields["metadata"] = check_metadata(
        fields["metadata"], max_entries=collections.limits.max_metadata_entries
    )
    fields["consent"] = read_consent(call.fields.consent)
    changes = {field: fields[field] for field in call.body.given}
    changed = await collections.people.change(record, name, changes, actor_of(call))
    return _answer(call, record, changed)


async def forget_subject(call: Call[NoOptions, NoOptions]) -> Answer:
    """Delete a subject: its record and all its faces."""
    record = await collection_of(call)
    forgetting = call.services.collections.forgetting
    receipt = await forgetting.subject(record, _name(call, record), actor_of(call))
    return Answer(receipt_out(receipt, request_id=call.request_id))


def _name(call: Call[Any, Any], record: CollectionRecord) -> str:
    """Return the subject that the path names, in the form in which names are stored."""
    name = call.path("subject")
    try:
        return subject_name(name)
    except ValueError as error:
        raise _missing(record, name) from error


def _answer(
    call: Call[Any, Any], record: CollectionRecord, subject: SubjectRecord | None
) -> Answer:
    if subject is None:
        raise _missing(record, call.path("subject"))
    shape = subject_out(subject)
    return Answer(SubjectAnswer(**shape.model_dump(), request_id=call.request_id))


def _missing(record: CollectionRecord, name: str) -> NotFoundError:
    return NotFoundError(f"there is no subject {name[:128]!r} in {record.name}")
