"""Collections: make, list, change, forget; move to another space, group."""

from dataclasses import replace
from typing import Final

from aiohttp import web

from gateway.api.body import BodySpec, read_body
from gateway.api.collections.schemas import (
    ClusterIn,
    CollectionAnswer,
    CollectionChange,
    CollectionIn,
    CollectionsOut,
    MigrateIn,
    PageOptions,
)
from gateway.api.collections.serializers import clusters_out, collection_out, receipt_out, run_out
from gateway.api.context import context_of, json_answer, read_options, services_of
from gateway.api.pagination import read_cursor, write_cursor
from gateway.api.shapes import NoOptions
from gateway.collections.base import Actor
from gateway.errors import NotFoundError
from gateway.records.types import CollectionRecord, CollectionSettings

CREATE_BODY: Final = BodySpec(CollectionIn, "none")
CHANGE_BODY: Final = BodySpec(CollectionChange, "none")
CLUSTER_BODY: Final = BodySpec(ClusterIn, "none")
MIGRATE_BODY: Final = BodySpec(MigrateIn, "none")


async def collection_of(request: web.Request) -> CollectionRecord:
    """Find the collection that the path names; raises NotFoundError."""
    caller = context_of(request).caller
    stores = services_of(request).collections.stores
    return await stores.collection(caller, request.match_info["name"])


def actor_of(request: web.Request) -> Actor:
    """Say who does it, for the audit."""
    context = context_of(request)
    return Actor(context.caller, context.request_id)


async def create_collection(request: web.Request) -> web.Response:
    """Make an empty collection."""
    body = await read_body(request, CREATE_BODY, CollectionIn)
    fields = body.fields.model_dump()
    name = fields.pop("name")
    collections = services_of(request).collections
    record = await collections.create(
        context_of(request).caller, name, CollectionSettings(**fields)
    )
    response = await _answer(request, record, status=201)
    response.headers["Location"] = f"/api/collections/{name}"
    return response


async def list_collections(request: web.Request) -> web.Response:
    """List collections by name."""
    context, stores = context_of(request), services_of(request).collections.stores
    options = read_options(request, PageOptions)
    after = read_cursor(options.cursor, str)
    found = await stores.records.collections.page(
        tenant=context.caller.tenant,
        limit=options.limit + 1,
        after=None if after is None else after[0],
    )
    page = found[: options.limit]
    shapes = []
    for record in page:
        faces, subjects = await stores.records.faces.count(record.id)
        shapes.append(collection_out(record, faces=faces, subjects=subjects))
    more = write_cursor(page[-1].name) if len(found) > options.limit else None
    answer = CollectionsOut(request_id=context.request_id, collections=shapes, next_cursor=more)
    return json_answer(answer)


async def show_collection(request: web.Request) -> web.Response:
    """Show one collection."""
    read_options(request, NoOptions)
    return await _answer(request, await collection_of(request))


async def change_collection(request: web.Request) -> web.Response:
    """Change the settings that were sent."""
    body = await read_body(request, CHANGE_BODY, CollectionChange)
    record = await collection_of(request)
    fields = body.fields.model_dump()
    settings = replace(record.settings, **{name: fields[name] for name in body.given})
    collections = services_of(request).collections
    changed = await collections.change(record, settings, actor_of(request))
    return await _answer(request, changed)


async def forget_collection(request: web.Request) -> web.Response:
    """Forget a collection and everything in it."""
    read_options(request, NoOptions)
    record = await collection_of(request)
    forgetting = services_of(request).collections.forgetting
    receipt = await forgetting.collection(record, actor_of(request))
    return json_answer(receipt_out(receipt, request_id=context_of(request).request_id))


async def migrate_collection(request: web.Request) -> web.Response:
    """Start, roll back or finish a move to another embedding space."""
    body = await read_body(request, MIGRATE_BODY, MigrateIn)
    record = await collection_of(request)
    migrations = services_of(request).collections.migrations
    if body.fields.action == "start":
        await migrations.start(record, deadline=context_of(request).deadline)
        return await _answer(request, await collection_of(request), status=202)
    if body.fields.action == "rollback":
        await migrations.rollback(record)
    else:
        await migrations.finish(record)
    return await _answer(request, await collection_of(request))


async def start_clusters(request: web.Request) -> web.Response:
    """Begin to group the faces of a collection."""
    body = await read_body(request, CLUSTER_BODY, ClusterIn)
    record = await collection_of(request)
    threshold = body.fields.threshold
    if threshold is None:
        threshold = threshold_of(request, record)
    run = await services_of(request).collections.clusters.start(record, threshold=threshold)
    return json_answer(run_out(run, request_id=context_of(request).request_id), status=202)


async def show_clusters(request: web.Request) -> web.Response:
    """Tell how far the latest run is, and the groups of the latest that is done."""
    options = read_options(request, PageOptions)
    record = await collection_of(request)
    records = services_of(request).collections.stores.records.clusters
    run = await records.latest(record.id)
    if run is None:
        raise NotFoundError(f"collection {record.name} was never grouped; POST here to do so")
    after = read_cursor(options.cursor, str)
    found = await records.page(
        record.id, limit=options.limit + 1, after=None if after is None else after[0]
    )
    page = found[: options.limit]
    more = write_cursor(page[-1].cluster_id) if len(found) > options.limit else None
    request_id = context_of(request).request_id
    return json_answer(clusters_out(run, page, request_id=request_id, next_cursor=more))


def threshold_of(request: web.Request, record: CollectionRecord) -> float:
    """Cosine from which faces match in this collection."""
    own, services = record.settings.match_threshold, services_of(request)
    if own is not None:
        return own
    if record.space is None:
        return services.settings.match_threshold
    return services.calibrations.threshold(
        record.space, target_fmr=None, otherwise=services.settings.match_threshold
    )


async def _answer(
    request: web.Request, record: CollectionRecord, *, status: int = 200
) -> web.Response:
    faces, subjects = await services_of(request).collections.stores.records.faces.count(record.id)
    shape = collection_out(record, faces=faces, subjects=subjects)
    answer = CollectionAnswer(**shape.model_dump(), request_id=context_of(request).request_id)
    return json_answer(answer, status=status)
