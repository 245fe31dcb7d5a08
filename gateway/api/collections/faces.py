"""The faces of a collection: enrol, list, forget, search."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import numpy as np
from aiohttp import web

from gateway.api.body import Body, BodySpec, read_body
from gateway.api.collections.routes import actor_of, collection_of, threshold_of
from gateway.api.collections.schemas import (
    EnrolIn,
    EnrolOut,
    FaceListOptions,
    FaceListOut,
    SearchIn,
)
from gateway.api.collections.serializers import enrol_out, face_record_out, receipt_out, search_out
from gateway.api.context import (
    context_of,
    dump_json,
    json_answer,
    read_options,
    services_of,
)
from gateway.api.faces.serializers import png
from gateway.api.pagination import read_cursor, write_cursor
from gateway.api.shapes import NoOptions
from gateway.collections.base import check_metadata
from gateway.collections.intake import EnrolOptions, RawEmbedding
from gateway.collections.search import SearchOptions
from gateway.errors import ConflictError, InvalidRequestError, NotFoundError
from gateway.pipeline import Selection
from gateway.records.types import CollectionRecord

ENROL_BODY: Final = BodySpec(EnrolIn, "many")
SEARCH_BODY: Final = BodySpec(SearchIn, "one")
IDEMPOTENCY_HEADER: Final = "Idempotency-Key"
REPLAYED_HEADER: Final = "Idempotency-Replayed"
_MAX_KEY: Final = 255
_UNDER_WAY_SECONDS: Final = 1


async def enrol_faces(request: web.Request) -> web.Response:
    """Remember faces: of images, or embeddings."""
    body = await read_body(request, ENROL_BODY, EnrolIn)
    record = await collection_of(request)

    async def work() -> tuple[int, EnrolOut]:
        answer = await _enrol(request, record, body)
        new = any(not face.duplicate for face in answer.faces)
        return 201 if new else 200, answer

    return await once(request, body.fingerprint(request.path), work)


async def list_faces(request: web.Request) -> web.Response:
    """List remembered faces, oldest first."""
    options = read_options(request, FaceListOptions)
    record = await collection_of(request)
    after = read_cursor(options.cursor, float, str)
    found = await services_of(request).collections.stores.records.faces.page(
        record.id,
        limit=options.limit + 1,
        after=None if after is None else (float(after[0]), after[1]),
        subject=options.subject,
    )
    page = found[: options.limit]
    more = None
    if len(found) > options.limit:
        more = write_cursor(page[-1].created_at, page[-1].id)
    answer = FaceListOut(
        request_id=context_of(request).request_id,
        faces=[face_record_out(face) for face in page],
        next_cursor=more,
    )
    return json_answer(answer)


async def forget_face(request: web.Request) -> web.Response:
    """Forget one face."""
    read_options(request, NoOptions)
    record = await collection_of(request)
    forgetting = services_of(request).collections.forgetting
    receipt = await forgetting.face(record, request.match_info["face_id"], actor_of(request))
    return json_answer(receipt_out(receipt, request_id=context_of(request).request_id))


async def show_crop(request: web.Request) -> web.Response:
    """Show the aligned face that was kept."""
    read_options(request, NoOptions)
    record = await collection_of(request)
    services, face_id = services_of(request), request.match_info["face_id"]
    crop = await services.collections.kept_crop(record, face_id)
    deadline = context_of(request).deadline
    data = await services.workers.run(partial(png, crop), deadline=deadline)
    # nobody on the way keeps a copy that forgetting would not reach
    headers = {"Cache-Control": "no-store"}
    return web.Response(body=data, content_type="image/png", headers=headers)


async def search_faces(request: web.Request) -> web.Response:
    """Find the faces of an image, or an embedding, in a collection."""
    body = await read_body(request, SEARCH_BODY, SearchIn)
    context, services = context_of(request), services_of(request)
    record = await collection_of(request)
    fields = body.fields
    options = _search_options(request, record, fields)
    if fields.embedding is not None:
        if body.images:
            raise InvalidRequestError("send an image or an embedding, not both")
        found = await services.intake.search_embedding(
            record,
            np.asarray(fields.embedding, dtype=np.float32),
            options,
            space=_space(fields.space),
            deadline=context.deadline,
        )
    else:
        if not body.images:
            raise InvalidRequestError("send an image, or an embedding with its space")
        found = await services.intake.search_image(
            record,
            body.images[0].data,
            options,
            all_faces=fields.faces == "all",
            selection=_selection(fields),
            deadline=context.deadline,
        )
    answer = search_out(
        found,
        request_id=context.request_id,
        threshold=options.min_similarity,
        space=record.space,
    )
    return json_answer(answer)


async def once(
    request: web.Request,
    fingerprint: str,
    work: Callable[[], Awaitable[tuple[int, EnrolOut]]],
) -> web.Response:
    """Do the work; with an `Idempotency-Key`, do it once a day and answer the same again.

    Raises ConflictError for a key whose first request was another one or is still under way,
    NotFoundError where what it enrolled was forgotten since.
    """
    key = request.headers.get(IDEMPOTENCY_HEADER)
    if key is None:
        status, answer = await work()
        return json_answer(answer, status=status)
    if not 0 < len(key) <= _MAX_KEY or not key.isprintable():
        raise InvalidRequestError(f"{IDEMPOTENCY_HEADER} must be 1 to {_MAX_KEY} characters")
    answers = services_of(request).collections.stores.records.answers
    tenant = context_of(request).caller.tenant
    before = await answers.begin(tenant=tenant, key=key, fingerprint=fingerprint)
    if before is not None:
        if before.fingerprint != fingerprint:
            raise ConflictError(f"{IDEMPOTENCY_HEADER} was used for another request")
        if before.status is not None and before.body is None:
            raise NotFoundError(
                f"what the first request with this {IDEMPOTENCY_HEADER} enrolled was forgotten"
            )
        if before.status is None or before.body is None:
            raise ConflictError(
                f"the first request with this {IDEMPOTENCY_HEADER} is under way",
                retry_after_seconds=_UNDER_WAY_SECONDS,
            )
        return web.Response(
            text=before.body,
            status=before.status,
            content_type="application/json",
            headers={REPLAYED_HEADER: "true"},
        )
    try:
        status, answer = await work()
        await answers.finish(
            tenant=tenant,
            key=key,
            status=status,
            body=dump_json(answer).decode(),
            face_ids=[face.face_id for face in answer.faces],
        )
    except BaseException:
        await answers.give_back(tenant=tenant, key=key)
        raise
    return json_answer(answer, status=status)


async def _enrol(request: web.Request, record: CollectionRecord, body: Body[EnrolIn]) -> EnrolOut:
    context, services = context_of(request), services_of(request)
    fields, limits = body.fields, services.collections.limits
    entries = limits.max_metadata_entries
    embeddings = _embeddings(fields, max_entries=entries, most=limits.max_enrol_images)
    if embeddings:
        if body.images:
            raise InvalidRequestError("send images or embeddings, not both")
        enrolled = await services.intake.enrol_embeddings(
            record, embeddings, space=_space(fields.space), deadline=context.deadline
        )
        return enrol_out(enrolled, (), request_id=context.request_id)
    if not body.images:
        raise InvalidRequestError("send images, or embeddings with their space")
    options = EnrolOptions(
        subject=fields.subject,
        faces=fields.faces,
        gate=fields.quality,
        metadata=check_metadata(fields.metadata, max_entries=entries),
        selection=_selection(fields),
    )
    enrolled, rejected = await services.intake.enrol_images(
        record, body.images, options, deadline=context.deadline
    )
    return enrol_out(enrolled, rejected, request_id=context.request_id)


def _embeddings(fields: EnrolIn, *, max_entries: int, most: int) -> list[RawEmbedding]:
    if fields.embedding is not None and fields.embeddings is not None:
        raise InvalidRequestError("send 'embedding' or 'embeddings', not both")
    if fields.embedding is not None:
        metadata = check_metadata(fields.metadata, max_entries=max_entries)
        vector = np.asarray(fields.embedding, dtype=np.float32)
        return [RawEmbedding(vector, fields.subject, metadata)]
    given = fields.embeddings or []
    if len(given) > most:
        raise InvalidRequestError(f"{len(given)} embeddings, {most} may be")
    return [
        RawEmbedding(
            np.asarray(each.embedding, dtype=np.float32),
            each.subject or fields.subject,
            check_metadata({**fields.metadata, **each.metadata}, max_entries=max_entries),
        )
        for each in given
    ]


def _selection(fields: EnrolIn | SearchIn) -> Selection:
    return Selection(fields.max_faces, fields.min_confidence, fields.rotation, fields.detail)


def _space(space: str | None) -> str:
    if space is None:
        raise InvalidRequestError("an embedding needs the 'space' that it was made in")
    return space


def _search_options(
    request: web.Request, record: CollectionRecord, fields: SearchIn
) -> SearchOptions:
    services = services_of(request)
    entries = services.collections.limits.max_metadata_entries
    similarity = fields.min_similarity
    if fields.target_fmr is not None and similarity is not None:
        raise InvalidRequestError("min_similarity and target_fmr are given; send one")
    if fields.target_fmr is not None:
        if record.space is None:
            raise InvalidRequestError("target_fmr needs a calibration; without faces there is none")
        similarity = services.calibrations.threshold(
            record.space, target_fmr=fields.target_fmr, otherwise=services.settings.match_threshold
        )
    return SearchOptions(
        limit=fields.limit,
        min_similarity=threshold_of(request, record) if similarity is None else similarity,
        by_subject=fields.group_by == "subject",
        subject=fields.subject,
        metadata=check_metadata(fields.filter, max_entries=entries),
    )
