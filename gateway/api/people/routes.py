"""A person across collections: find, export, erase; the do-not-enrol lists of collections."""

from functools import partial
from typing import Any, Final

from aiohttp import web

from gateway.api.body import BodySpec
from gateway.api.call import Answer, Call
from gateway.api.collections.routes import actor_of, collection_of
from gateway.api.collections.schemas import DetectionIn
from gateway.api.pagination import PageOptions, read_page
from gateway.api.people.package import package
from gateway.api.people.schemas import (
    EraseIn,
    ExportIn,
    FindIn,
    RefusalAnswer,
    RefusalsAnswer,
    RefusalsOut,
    RefuseIn,
    TargetIn,
)
from gateway.api.people.serializers import erasure_out, people_out, refusal_out
from gateway.api.shapes import NoOptions
from gateway.collections.people import Held, Person
from gateway.collections.refusals import Listed
from gateway.deadline import Deadline
from gateway.errors import InvalidRequestError
from gateway.jobs.results import open_result
from gateway.pipeline import Selection
from gateway.records import clock
from gateway.records.types import CollectionRecord

FIND_BODY: Final = BodySpec(FindIn, "one")
EXPORT_BODY: Final = BodySpec(ExportIn, "none")
ERASE_BODY: Final = BodySpec(EraseIn, "none")
REFUSE_BODY: Final = BodySpec(RefuseIn, "one")
_WRITING_SECONDS: Final = 300.0


async def find_people(call: Call[NoOptions, FindIn]) -> Answer:
    """Find a person in all collections, by name or by face."""
    fields, people = call.fields, call.services.collections.people
    _need_one(call, fields.subject)
    if fields.subject is not None:
        found = await people.named(call.caller, fields.subject)
    else:
        probe = await call.services.intake.probe(
            call.body.images[0].data,
            _selection(fields),
            tenant=call.caller.tenant,
            deadline=call.deadline,
        )
        found = await people.similar(
            call.caller,
            probe,
            min_similarity=fields.min_similarity,
            limit=fields.limit,
            deadline=call.deadline,
        )
    return Answer(people_out(found, request_id=call.request_id))


async def export_people(call: Call[NoOptions, ExportIn]) -> web.Response:
    """Pack everything that is stored about a person."""
    people = call.services.collections.people
    located = await _located(call, call.fields.people)
    embeddings = call.fields.embeddings
    held = await people.held(located, actor_of(call), embeddings=embeddings)
    write = partial(package, held, _results(call, held), at=clock.now(), embeddings=embeddings)
    data = await call.services.cpu_pool.run(write, deadline=Deadline.after(_WRITING_SECONDS))
    headers = {
        "Cache-Control": "no-store",
        "Content-Disposition": 'attachment; filename="person.zip"',
    }
    return web.Response(body=data, content_type="application/zip", headers=headers)


async def erase_people(call: Call[NoOptions, EraseIn]) -> Answer:
    """Delete a person in all collections."""
    people, fields = call.services.collections.people, call.fields
    erasure = await people.erase(
        await _located(call, fields.people),
        actor_of(call),
        do_not_enrol=fields.reason if fields.do_not_enrol else None,
    )
    return Answer(erasure_out(erasure, call.services.settings, request_id=call.request_id))


async def refuse_person(call: Call[NoOptions, RefuseIn]) -> Answer:
    """Put a face on the do-not-enrol list of a collection."""
    record, fields, services = await collection_of(call), call.fields, call.services
    _need_one(call, fields.subject)
    if fields.subject is not None:
        (person,) = await services.collections.people.located(
            call.caller, [(record.name, fields.subject)]
        )
        entries = await services.collections.people.refuse(
            person, actor_of(call), reason=fields.reason, keep_crop=fields.keep_crop
        )
        if not entries:
            raise InvalidRequestError("the subject has no face that could be put on the list")
    else:
        face = await services.intake.one_face(
            call.body.images[0].data,
            _selection(fields),
            tenant=call.caller.tenant,
            keep_crop=fields.keep_crop,
            deadline=call.deadline,
        )
        entries = await services.collections.refusals.add(
            record, [face], reason=fields.reason, actor=actor_of(call)
        )
    # the model that made them is in service
    shapes = [refusal_out(Listed(entry, is_compared=True)) for entry in entries]
    return Answer(RefusalsAnswer(request_id=call.request_id, entries=shapes), status=201)


async def list_refused(call: Call[PageOptions, NoOptions]) -> Answer:
    """List the do-not-enrol list of a collection."""
    record = await collection_of(call)
    records = call.services.collections.stores.records.refusals
    page = await read_page(
        call.options,
        lambda limit, after: records.page(record.id, limit=limit, after=after),
        position=lambda entry: (entry.created_at, entry.id),
        kinds=(float, str),
    )
    shown = await call.services.collections.refusals.shown(
        record, page.items, deadline=call.deadline
    )
    return Answer(
        RefusalsOut(
            request_id=call.request_id,
            entries=[refusal_out(each) for each in shown],
            next_cursor=page.next_cursor,
        )
    )


async def allow_person(call: Call[NoOptions, NoOptions]) -> Answer:
    """Take a face off the do-not-enrol list of a collection."""
    record: CollectionRecord = await collection_of(call)
    refusals = call.services.collections.refusals
    entry = await refusals.remove(record, call.path("entry_id"), actor_of(call))
    shape = refusal_out(Listed(entry, is_compared=False))
    return Answer(RefusalAnswer(**shape.model_dump(), request_id=call.request_id))


async def _located(call: Call[Any, Any], targets: list[TargetIn]) -> tuple[Person, ...]:
    pairs = [(each.collection, each.subject) for each in targets]
    return await call.services.collections.people.located(call.caller, pairs)


def _results(call: Call[Any, Any], held: tuple[Held, ...]) -> dict[tuple[str, int], bytes]:
    """Decrypt the answers of images of jobs."""
    cipher = call.services.jobs.cipher
    return {
        (item.job.id, item.index): open_result(cipher, item.job.id, item.index, item.result)
        for each in held
        for item in each.items
        if item.result is not None
    }


def _need_one(call: Call[Any, Any], subject: str | None) -> None:
    if (subject is None) == (not call.body.images):
        raise InvalidRequestError("send an image or a subject, not both and not none")


def _selection(fields: DetectionIn) -> Selection:
    return Selection(fields.max_faces, fields.min_confidence, fields.rotation, fields.detail)
