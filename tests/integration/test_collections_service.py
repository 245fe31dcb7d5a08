"""Collections on real homes: Qdrant Edge with SQLite, and Qdrant's client with PostgreSQL."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.collections.base import Actor, Stores, home_of
from gateway.collections.search import Probe, SearchOptions
from gateway.collections.service import Collections
from gateway.errors import ConflictError, InsufficientStorageError, NotFoundError
from gateway.records.models import CollectionRecord, CollectionSettings
from gateway.records.store import RecordStore
from gateway.vectors.base import VectorStore
from gateway.vectors.server import IN_MEMORY, QdrantVectorStore
from tests.support.collections import (
    CALLER,
    NEW,
    OLD,
    TUNING,
    CountingCache,
    FakeEmbedder,
    candidate,
    collections_on,
    crop_of,
    edge_stores,
    in_time,
    person,
)

ACTOR = Actor(CALLER, "req-1")


@dataclass
class World:
    """Everything a test touches."""

    service: Collections
    embedder: FakeEmbedder
    cache: CountingCache
    records: RecordStore
    vectors: VectorStore


@pytest.fixture(params=["edge+sqlite", "server+postgresql"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    embedder = FakeEmbedder()
    if request.param == "edge+sqlite":
        async with edge_stores(tmp_path) as stores:
            service, cache = collections_on(stores.vectors, stores.records, tmp_path, embedder)
            async with service.running():
                yield World(service, embedder, cache, stores.records, stores.vectors)
        return
    server: str = request.getfixturevalue("postgres")
    records = await RecordStore.open(server)
    vectors = await QdrantVectorStore.open(IN_MEMORY, TUNING, api_key=None, timeout_seconds=5)
    for left in await records.collections.all():
        await records.collections.remove(left.id)
    service, cache = collections_on(vectors, records, tmp_path, embedder)
    async with service.running():
        yield World(service, embedder, cache, records, vectors)
    await vectors.close()
    await records.close()


async def make(world: World, **settings) -> CollectionRecord:
    return await world.service.create(CALLER, "people", CollectionSettings(**settings))


async def current(world: World) -> CollectionRecord:
    return await world.service.stores.collection(CALLER, "people")


async def enrol(world: World, *numbers: int, subject: str | None = None) -> list[str]:
    faces = await world.service.enrolment.enrol(
        await current(world), [candidate(n, subject) for n in numbers], deadline=in_time()
    )
    return [face.id for face in faces]


async def who(world: World, number: int, *, space: str = OLD) -> list[str]:
    probe = Probe(person(number, space), space, crop_of(number))
    (matches,) = await world.service.search.find(
        await current(world), [probe], SearchOptions(5, 0.8), deadline=in_time()
    )
    return [match.subject for match in matches]


async def until_switched(world: World) -> None:
    async with asyncio.timeout(30):
        while True:
            migration = (await current(world)).migration
            assert migration is not None
            assert migration.state != "failed", migration.detail
            if migration.state == "switched":
                return
            await asyncio.sleep(0.05)


async def test_enrol_find_forget(world: World) -> None:
    await make(world)
    assert await who(world, 1) == []
    await enrol(world, 1, 2)
    (again,) = await enrol(world, 1)
    assert await who(world, 1) == ["p1"]
    assert await who(world, 3) == []
    collection = await current(world)
    assert (collection.space, collection.dimension) == (OLD, 32)
    receipt = await world.service.forgetting.face(collection, again, ACTOR)
    assert (receipt.faces, receipt.vectors, receipt.cached_answers) == (1, 1, 1)
    assert await who(world, 1) == ["p1"]
    receipt = await world.service.forgetting.subject(collection, "p1", ACTOR)
    assert receipt.faces == 1
    assert await who(world, 1) == []
    assert await who(world, 2) == ["p2"]
    assert world.cache.forgotten == [f"{1:064x}", f"{1:064x}"]
    with pytest.raises(NotFoundError):
        await world.service.forgetting.subject(collection, "p1", ACTOR)
    assert await world.service.repair.find_drift() == ()


async def test_the_audit_tells_counts_and_nobody(world: World) -> None:
    await make(world)
    (face,) = await enrol(world, 7, subject="anna")
    receipt = await world.service.forgetting.face(await current(world), face, ACTOR)
    (line, *_) = await world.records.audit.latest(tenant="default", limit=1)
    assert line.receipt == receipt.receipt
    assert line.counts == {"faces": 1, "vectors": 1, "crops": 0, "cached_answers": 1}
    assert (line.action, line.actor, line.collection) == ("forget_face", "tester", "people")
    assert line.request_id == "req-1"
    written = repr(line)
    assert "anna" not in written
    assert face not in written


async def test_a_forgotten_collection_is_gone_and_its_name_is_free(world: World) -> None:
    collection = await make(world, keep="crop")
    await enrol(world, 1, 2, 3)
    receipt = await world.service.forgetting.collection(await current(world), ACTOR)
    assert (receipt.faces, receipt.vectors, receipt.crops) == (3, 3, 3)
    with pytest.raises(NotFoundError):
        await current(world)
    assert home_of(collection, OLD) not in await world.vectors.collections()
    await make(world)
    await enrol(world, 4)
    assert await who(world, 1) == []
    assert await who(world, 4) == ["p4"]


async def test_a_faces_time_runs_out(world: World) -> None:
    await make(world, retention_days=1, keep="crop")
    await enrol(world, 1)
    now = time.time()
    assert await world.service.forget_expired(at=now + 3600) == 0
    assert await world.service.forget_expired(at=now + 86_500) == 1
    assert await who(world, 1) == []
    (line, *_) = await world.records.audit.latest(tenant="default", limit=1)
    assert (line.action, line.actor, line.counts["crops"]) == ("retention", "retention", 1)


async def test_an_embedding_of_another_space_is_refused(world: World) -> None:
    await make(world)
    await enrol(world, 1)
    raw = replace(candidate(2, space=NEW), crop=None)
    with pytest.raises(ConflictError, match=OLD):
        await world.service.enrolment.enrol(await current(world), [raw], deadline=in_time())
    with pytest.raises(ConflictError, match=OLD):
        await world.service.search.find(
            await current(world),
            [Probe(person(2, NEW), NEW)],
            SearchOptions(5, 0.8),
            deadline=in_time(),
        )


async def test_images_after_a_swap_go_through_the_older_model(world: World) -> None:
    await make(world)
    await enrol(world, 1)
    world.embedder.spaces = [OLD, NEW]
    newer = candidate(2, space=NEW)
    await world.service.enrolment.enrol(await current(world), [newer], deadline=in_time())
    assert await who(world, 2, space=NEW) == ["p2"]
    assert await who(world, 1, space=NEW) == ["p1"]
    assert (await current(world)).space == OLD


async def test_what_was_cut_off_is_settled_at_the_start(world: World, tmp_path: Path) -> None:
    collection = await make(world, keep="crop")
    kept, half, doomed = await enrol(world, 1, 2, 3)
    # as a crash leaves them: a vector whose face is pending, a face half forgotten
    await world.records.faces._set_state([half], "pending")
    await world.records.faces.begin_forgetting([doomed])
    service, _ = collections_on(world.vectors, world.records, tmp_path, world.embedder)
    async with service.running():
        pass
    points = await world.vectors.scroll(home_of(collection, OLD), limit=10)
    assert [point.face_id for point in points.points] == [kept]
    assert await world.records.faces.count_crops(collection.id) == 1
    assert not await world.records.faces.in_state("pending")
    assert not await world.records.faces.in_state("deleting")


async def test_drift_is_found_and_mended(world: World) -> None:
    collection = await make(world)
    lost, orphan, kept = await enrol(world, 1, 2, 3)
    home = home_of(collection, OLD)
    await world.vectors.delete(home, [lost])
    await world.records.faces.remove([orphan])
    (drift,) = await world.service.repair.find_drift()
    assert (drift.orphans, drift.missing) == ((orphan,), (lost,))
    await world.service.repair.mend([drift])
    assert await world.service.repair.find_drift() == ()
    points = await world.vectors.scroll(home, limit=10)
    assert [point.face_id for point in points.points] == [kept]


class FullVectors:
    """A home of vectors whose disk is full from the upsert on."""

    def __init__(self, real: VectorStore) -> None:
        self._real = real
        self.full = True

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)

    async def upsert(self, *arguments) -> None:
        if self.full:
            raise InsufficientStorageError("full")
        await self._real.upsert(*arguments)


async def test_a_failed_enrolment_leaves_nothing(world: World, tmp_path: Path) -> None:
    collection = await make(world, keep="crop")
    vectors = FullVectors(world.vectors)
    service, _ = collections_on(vectors, world.records, tmp_path, world.embedder)
    with pytest.raises(InsufficientStorageError):
        await service.enrolment.enrol(collection, [candidate(1)], deadline=in_time())
    assert not await world.records.faces.in_state("pending")
    assert await world.records.faces.count_crops(collection.id) == 0
    vectors.full = False
    await service.enrolment.enrol(collection, [candidate(1)], deadline=in_time())
    assert await who(world, 1) == ["p1"]


async def test_a_move_to_a_new_space_loses_nobody(world: World) -> None:
    collection = await make(world, keep="crop")
    await enrol(world, *range(70))
    world.embedder.spaces = [OLD, NEW]
    world.embedder.pause_seconds = 0.1
    migration = await world.service.migrations.start(await current(world), deadline=in_time())
    assert (migration.source, migration.target, migration.total) == (OLD, NEW, 70)
    # meanwhile: searches answer in the old space, new faces go to both, forgotten ones from both
    assert await who(world, 5, space=NEW) == ["p5"]
    assert (await current(world)).space == OLD
    await world.service.enrolment.enrol(
        await current(world), [candidate(100, space=NEW)], deadline=in_time()
    )
    await world.service.forgetting.subject(await current(world), "p6", ACTOR)
    await until_switched(world)
    moved = await current(world)
    assert (moved.space, moved.dimension) == (NEW, 48)
    assert await world.vectors.count(home_of(collection, NEW)) == 70
    for number in (0, 5, 69, 100):
        assert await who(world, number, space=NEW) == [f"p{number}"]
    assert await who(world, 6, space=NEW) == []
    # a face enrolled after the switch can go back, too
    await world.service.enrolment.enrol(moved, [candidate(101, space=NEW)], deadline=in_time())
    await world.service.migrations.rollback(await current(world))
    back = await current(world)
    assert (back.space, back.dimension, back.migration) == (OLD, 32, None)
    assert home_of(collection, NEW) not in await world.vectors.collections()
    for number in (0, 69, 100, 101):
        assert await who(world, number, space=NEW) == [f"p{number}"]
    assert await world.service.repair.find_drift() == ()


@pytest.mark.parametrize("while_it", ["reads crops", "embeds"])
async def test_who_is_forgotten_while_they_are_moved_is_not_brought_back(
    world: World, monkeypatch: pytest.MonkeyPatch, while_it: str
) -> None:
    collection = await make(world, keep="crop")
    await enrol(world, 1, 2, 3)
    world.embedder.spaces = [OLD, NEW]
    part, name = {
        "reads crops": (world.records.faces, "crops"),
        "embeds": (world.embedder, "embed"),
    }[while_it]
    original = getattr(part, name)

    async def forget_first(*arguments: Any, **options: Any) -> Any:
        monkeypatch.undo()
        receipt = await world.service.forgetting.subject(await current(world), "p2", ACTOR)
        assert receipt.faces == 1
        return await original(*arguments, **options)

    monkeypatch.setattr(part, name, forget_first)
    await world.service.migrations.start(await current(world), deadline=in_time())
    await until_switched(world)
    assert await world.vectors.count(home_of(collection, NEW)) == 2
    assert await who(world, 2, space=NEW) == []
    assert await who(world, 3, space=NEW) == ["p3"]
    assert await world.service.repair.find_drift() == ()


async def test_a_finished_move_drops_the_old_space(world: World) -> None:
    collection = await make(world, keep="crop")
    await enrol(world, 1, 2)
    world.embedder.spaces = [OLD, NEW]
    await world.service.migrations.start(await current(world), deadline=in_time())
    await until_switched(world)
    await world.service.migrations.finish(await current(world))
    world.embedder.spaces = [NEW]
    assert home_of(collection, OLD) not in await world.vectors.collections()
    assert await who(world, 2, space=NEW) == ["p2"]
    assert (await current(world)).migration is None
    assert await world.records.collections.spaces() == [NEW]
    receipt = await world.service.forgetting.subject(await current(world), "p1", ACTOR)
    assert receipt.vectors == 1
    assert await world.service.repair.find_drift() == ()


async def test_a_move_goes_on_after_a_restart(world: World, tmp_path: Path) -> None:
    await make(world, keep="crop")
    await enrol(world, *range(100))
    world.embedder.spaces = [OLD, NEW]
    world.embedder.pause_seconds = 0.15
    await world.service.migrations.start(await current(world), deadline=in_time())
    async with asyncio.timeout(20):
        while not await world.records.faces.count_copied((await current(world)).id, NEW):
            await asyncio.sleep(0.01)
    await world.service.migrations.close()
    copied = await world.records.faces.count_copied((await current(world)).id, NEW)
    assert 0 < copied < 100
    world.embedder.pause_seconds = 0
    before = world.embedder.calls
    service, _ = collections_on(world.vectors, world.records, tmp_path, world.embedder)
    async with service.running():
        await until_switched(world)
    # what was copied is not embedded again; one more call is the check of a sample
    assert world.embedder.calls - before <= -(-(100 - copied) // 32) + 1
    assert await who(world, 99, space=NEW) == ["p99"]


async def test_a_collection_without_crops_stays_where_it_is(world: World) -> None:
    await make(world)
    await enrol(world, 1)
    with pytest.raises(ConflictError, match="newest space"):
        await world.service.migrations.start(await current(world), deadline=in_time())
    world.embedder.spaces = [OLD, NEW]
    with pytest.raises(ConflictError, match="no crop"):
        await world.service.migrations.start(await current(world), deadline=in_time())
    assert await who(world, 1, space=NEW) == ["p1"]


async def test_groups_are_people_and_keep_their_ids(world: World) -> None:
    collection = await make(world)
    rng = np.random.default_rng(4)
    batch = []
    for number in range(60):
        noise = rng.standard_normal(32).astype(np.float32)
        vector = person(number % 6) + 0.4 * noise / np.linalg.norm(noise)
        batch.append(replace(candidate(number % 6), subject=None, vector=vector))
    await world.service.enrolment.enrol(collection, batch, deadline=in_time())
    await finished_run(world)
    groups = await world.records.clusters.page(collection.id, limit=20, after=None)
    assert sorted(group.size for group in groups) == [10] * 6
    for group in groups:
        faces = await world.records.faces.get(collection.id, group.faces)
        assert len({face.metadata["n"] for face in faces}) == 1
    before = {group.cluster_id: group.faces for group in groups}
    await world.service.enrolment.enrol(
        await current(world), [candidate(0), candidate(9)], deadline=in_time()
    )
    await finished_run(world)
    after = await world.records.clusters.page(collection.id, limit=20, after=None)
    assert len(after) == 7
    assert {group.cluster_id for group in after} > set(before)
    for group in after:
        assert set(before.get(group.cluster_id, ())) <= set(group.faces)


async def finished_run(world: World) -> None:
    collection = await current(world)
    started = await world.service.clusters.start(collection, threshold=0.5)
    async with asyncio.timeout(60):
        while True:
            run = await world.records.clusters.latest(collection.id)
            assert run is not None
            if run.state != "running":
                break
            await asyncio.sleep(0.05)
    assert (run.run_id, run.state, run.detail) == (started.run_id, "done", None)
    assert run.done == run.total


async def test_stores_find_only_the_callers_own(world: World) -> None:
    await make(world)
    stores: Stores = world.service.stores
    with pytest.raises(NotFoundError):
        await stores.collection(replace(CALLER, tenant="other"), "people")
