"""Collections: create, list, change, delete; move to another embedding space; cluster."""

from dataclasses import replace
from typing import Any, Final

from gateway.api.body import BodySpec
from gateway.api.call import Answer, Call
from gateway.api.collections.schemas import (
    ClusterIn,
    CollectionAnswer,
    CollectionChange,
    CollectionIn,
    CollectionsOut,
    MigrateIn,
)
from gateway.api.collections.serializers import clusters_out, collection_out, receipt_out, run_out
from gateway.api.pagination import PageOptions, read_page
from gateway.api.shapes import NoOptions
from gateway.collections.base import Actor
from gateway.errors import NotFoundError
from gateway.records.types import CollectionRecord, CollectionSettings

CREATE_BODY: Final = BodySpec(CollectionIn, "none")
CHANGE_BODY: Final = BodySpec(CollectionChange, "none")
CLUSTER_BODY: Final = BodySpec(ClusterIn, "none")
MIGRATE_BODY: Final = BodySpec(MigrateIn, "none")


async def collection_of(call: Call[Any, Any]) -> CollectionRecord:
    """Find the collection that the path names; raises NotFoundError."""
    return await call.services.collections.stores.collection(call.caller, call.path("name"))


def actor_of(call: Call[Any, Any]) -> Actor:
    """Name caller and request for the audit log."""
    return Actor(call.caller, call.request_id)


async def create_collection(call: Call[NoOptions, CollectionIn]) -> Answer:
    """Create an empty collection."""
    fields = call.fields.model_dump()
    name = fields.pop("name")
    call.context.notes.collection = name
    settings = CollectionSettings(**fields)
    record = await call.services.collections.create(call.caller, name, settings)
    location = {"Location": f"/api/collections/{name}"}
    return Answer(await _shape(call, record), status=201, headers=location)


async def list_collections(call: Call[PageOptions, NoOptions]) -> Answer:
    """List collections by name."""
    records = call.services.collections.stores.records
    page = await read_page(
        call.options,
        lambda limit, after: records.collections.page(
            tenant=call.caller.tenant,
            limit=limit,
            after=after and after[0],
            names=call.caller.collections,
        ),
        position=lambda record: (record.name,),
    )
    shapes = []
    for record in page.items:
        faces, subjects = await records.faces.count(record.id)
        shapes.append(collection_out(record, faces=faces, subjects=subjects))
    return Answer(
        CollectionsOut(request_id=call.request_id, collections=shapes, next_cursor=page.next_cursor)
    )


async def show_collection(call: Call[NoOptions, NoOptions]) -> Answer:
    """Show a collection."""
    return Answer(await _shape(call, await collection_of(call)))


async def change_collection(call: Call[NoOptions, CollectionChange]) -> Answer:
    """Change the settings that were sent."""
    record = await collection_of(call)
    fields = call.fields.model_dump()
    settings = replace(record.settings, **{name: fields[name] for name in call.body.given})
    changed = await call.services.collections.change(record, settings, actor_of(call))
    return Answer(await _shape(call, changed))


async def forget_collection(call: Call[NoOptions, NoOptions]) -> Answer:
    """Delete a collection and everything in it."""
    record = await collection_of(call)
    receipt = await call.services.collections.forgetting.collection(record, actor_of(call))
    return Answer(receipt_out(receipt, request_id=call.request_id))


async def migrate_collection(call: Call[NoOptions, MigrateIn]) -> Answer:
    """Start, roll back or finish a move to another embedding space."""
    record = await collection_of(call)
    migrations = call.services.collections.migrations
    if call.fields.action == "start":
        await migrations.start(record, deadline=call.deadline)
        return Answer(await _shape(call, await collection_of(call)), status=202)
    if call.fields.action == "rollback":
        await migrations.rollback(record)
    else:
        await migrations.finish(record)
    return Answer(await _shape(call, await collection_of(call)))


async def start_clusters(call: Call[NoOptions, ClusterIn]) -> Answer:
    """Start to cluster the faces of a collection."""
    record = await collection_of(call)
    threshold = call.fields.threshold
    if threshold is None:
        threshold = call.services.thresholds.of_collection(record)
    run = await call.services.collections.clusters.start(record, threshold=threshold)
    return Answer(run_out(run, request_id=call.request_id), status=202)


async def show_clusters(call: Call[PageOptions, NoOptions]) -> Answer:
    """Show the progress of the latest run, and the clusters of the latest finished one."""
    record = await collection_of(call)
    records = call.services.collections.stores.records.clusters
    run = await records.latest(record.id)
    if run is None:
        message = f"collection {record.name} was never clustered; POST to this path starts a run"
        raise NotFoundError(message)
    page = await read_page(
        call.options,
        lambda limit, after: records.page(record.id, limit=limit, after=after and after[0]),
        position=lambda cluster: (cluster.cluster_id,),
    )
    shape = clusters_out(run, page.items, request_id=call.request_id, next_cursor=page.next_cursor)
    return Answer(shape)


async def _shape(call: Call[Any, Any], record: CollectionRecord) -> CollectionAnswer:
    records = call.services.collections.stores.records
    faces, subjects = await records.faces.count(record.id)
    shape = collection_out(record, faces=faces, subjects=subjects)
    return CollectionAnswer(**shape.model_dump(), request_id=call.request_id)
