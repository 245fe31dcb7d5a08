"""The faces of a collection: enrol, list, delete, search."""

from collections.abc import Sequence
from functools import partial
from typing import Final

import numpy as np
from aiohttp import web

from gateway.api.body import BodySpec
from gateway.api.call import Answer, Call
from gateway.api.collections.consent import read_consent
from gateway.api.collections.routes import actor_of, collection_of
from gateway.api.collections.schemas import (
    DetectionIn,
    EnrolIn,
    EnrolOut,
    FaceListOptions,
    FaceListOut,
    SearchIn,
)
from gateway.api.collections.serializers import enrol_out, face_record_out, receipt_out, search_out
from gateway.api.faces.serializers import png
from gateway.api.pagination import read_page
from gateway.api.shapes import NoOptions
from gateway.collections.base import Enrolled, check_metadata
from gateway.collections.intake import EnrolOptions, RawEmbedding, Rejected
from gateway.collections.search import SearchOptions
from gateway.concurrency import composed
from gateway.errors import InvalidRequestError
from gateway.pipeline import Selection
from gateway.records.types import CollectionRecord, Terms

ENROL_BODY: Final = BodySpec(EnrolIn, "many")
SEARCH_BODY: Final = BodySpec(SearchIn, "one")


async def enrol_faces(call: Call[NoOptions, EnrolIn]) -> Answer:
    """Enrol the faces of images, or embeddings."""
    return await _enrol(call, await collection_of(call))


def enrolled_ids(answer: EnrolOut) -> list[str]:
    """Return the ids of the faces that an answer names."""
    return [face.face_id for face in answer.faces]


async def list_faces(call: Call[FaceListOptions, NoOptions]) -> Answer:
    """List enrolled faces, oldest first."""
    record = await collection_of(call)
    records = call.services.collections.stores.records.faces
    page = await read_page(
        call.options,
        lambda limit, after: records.page(
            record.id, limit=limit, after=after, subject=call.options.subject
        ),
        position=lambda face: (face.created_at, face.id),
        kinds=(float, str),
    )
    return Answer(
        FaceListOut(
            request_id=call.request_id,
            faces=[face_record_out(face) for face in page.items],
            next_cursor=page.next_cursor,
        )
    )


async def forget_face(call: Call[NoOptions, NoOptions]) -> Answer:
    """Delete one face."""
    record = await collection_of(call)
    forgetting = call.services.collections.forgetting
    receipt = await forgetting.face(record, call.path("face_id"), actor_of(call))
    return Answer(receipt_out(receipt, request_id=call.request_id))


async def show_crop(call: Call[NoOptions, NoOptions]) -> web.Response:
    """Show the stored crop of a face."""
    record = await collection_of(call)
    crop = await call.services.collections.kept_crop(record, call.path("face_id"))
    data = await call.services.cpu_pool.run(partial(png, crop), deadline=call.deadline)
    return web.Response(body=data, content_type="image/png")


async def search_faces(call: Call[NoOptions, SearchIn]) -> Answer:
    """Find the faces of an image, or an embedding, in a collection."""
    record = await collection_of(call)
    fields, images, intake = call.fields, call.body.images, call.services.intake
    options = _search_options(call, record)
    if fields.embedding is not None:
        if images:
            raise InvalidRequestError("send an image or an embedding, not both")
        found = await intake.search_embedding(
            record,
            np.asarray(fields.embedding, dtype=np.float32),
            options,
            space=_space(fields.space),
            deadline=call.deadline,
        )
    else:
        if not images:
            raise InvalidRequestError("send an image, or an embedding with its space")
        found = await intake.search_image(
            record,
            images[0].data,
            options,
            all_faces=fields.faces == "all",
            selection=_selection(fields),
            deadline=call.deadline,
        )
    shape = search_out(
        found,
        request_id=call.request_id,
        threshold=options.min_similarity,
        space=record.space,
    )
    return Answer(shape)


async def _enrol(call: Call[NoOptions, EnrolIn], record: CollectionRecord) -> Answer:
    fields, images, intake = call.fields, call.body.images, call.services.intake
    limits = call.services.collections.limits
    entries = limits.max_metadata_entries
    terms = Terms(consent=read_consent(fields.consent), purpose=fields.purpose)

    def answer(enrolled: Sequence[Enrolled], rejected: Sequence[Rejected] = ()) -> Answer:
        is_new = any(not each.duplicate for each in enrolled)
        shape = enrol_out(enrolled, rejected, request_id=call.request_id)
        return Answer(shape, status=201 if is_new else 200)

    embeddings = _embeddings(fields, max_entries=entries, most=limits.max_enrol_images)
    if embeddings:
        if images:
            raise InvalidRequestError("send images or embeddings, not both")
        enrolled = await intake.enrol_embeddings(
            record,
            embeddings,
            space=_space(fields.space),
            deadline=call.deadline,
            terms=terms,
            kept=composed(call.keep, answer),
        )
        return answer(enrolled)
    if not images:
        raise InvalidRequestError("send images, or embeddings with their space")
    options = EnrolOptions(
        subject=fields.subject,
        faces=fields.faces,
        gate=fields.quality,
        metadata=check_metadata(fields.metadata, max_entries=entries),
        selection=_selection(fields),
        terms=terms,
    )
    kept = composed(call.keep, lambda outcome: answer(*outcome))
    enrolled, rejected = await intake.enrol_images(
        record, images, options, deadline=call.deadline, kept=kept
    )
    return answer(enrolled, rejected)


def _embeddings(fields: EnrolIn, *, max_entries: int, most: int) -> list[RawEmbedding]:
    if fields.embedding is not None and fields.embeddings is not None:
        raise InvalidRequestError("send 'embedding' or 'embeddings', not both")
    if fields.embedding is not None:
        metadata = check_metadata(fields.metadata, max_entries=max_entries)
        vector = np.asarray(fields.embedding, dtype=np.float32)
        return [RawEmbedding(vector, fields.subject, metadata)]
    given = fields.embeddings or []
    if len(given) > most:
        raise InvalidRequestError(f"{len(given)} embeddings exceed the limit of {most}")
    return [
        RawEmbedding(
            np.asarray(each.embedding, dtype=np.float32),
            each.subject or fields.subject,
            check_metadata({**fields.metadata, **each.metadata}, max_entries=max_entries),
        )
        for each in given
    ]


def _selection(fields: DetectionIn) -> Selection:
    return Selection(fields.max_faces, fields.min_confidence, fields.rotation, fields.detail)


def _space(space: str | None) -> str:
    if space is None:
        raise InvalidRequestError("an embedding needs its 'space'")
    return space


def _search_options(call: Call[NoOptions, SearchIn], record: CollectionRecord) -> SearchOptions:
    services, fields = call.services, call.fields
    similarity = fields.min_similarity
    if fields.target_fmr is not None and similarity is not None:
        raise InvalidRequestError("min_similarity and target_fmr are given; send one")
    if similarity is None:
        similarity = services.thresholds.of_collection(record, target_fmr=fields.target_fmr)
    return SearchOptions(
        limit=fields.limit,
        min_similarity=similarity,
        by_subject=fields.group_by == "subject",
        subject=fields.subject,
        metadata=check_metadata(
            fields.filter, max_entries=services.collections.limits.max_metadata_entries
        ),
    )
