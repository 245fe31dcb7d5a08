"""Collections on real homes: Qdrant Edge with SQLite, and Qdrant's client with PostgreSQL."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gateway.collections.base import Stores, index_of
from gateway.collections.search import Probe, SearchOptions
from gateway.errors import ConflictError, InsufficientStorageError, NotFoundError
from gateway.vectors.base import VectorStore
from tests.support.collection_world import ACTOR, World, current, enrol, make, who
from tests.support.collections import (
    CALLER,
    NEW,
    OLD,
    candidate,
    collections_on,
    in_time,
    person,
)


async def test_enrol_find_forget(world: World) -> None:
    await make(world)
    assert await who(world, 1) == []
    await enrol(world, 1, 2)
    other_image = replace(candidate(1), image_sha256="f" * 64)
    (enrolled,) = await world.service.enrolment.enrol(
        await current(world), [other_image], deadline=in_time()
    )
    again = enrolled.face.id
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
    assert world.cache.forgotten == ["f" * 64, f"{1:064x}"]
    with pytest.raises(NotFoundError):
        await world.service.forgetting.subject(collection, "p1", ACTOR)
    assert await world.service.repair.find_drift() == ()


async def test_the_audit_tells_counts_and_nobody(world: World) -> None:
    await make(world)
    (face,) = await enrol(world, 7, subject="anna")
    receipt = await world.service.forgetting.face(await current(world), face, ACTOR)
    (line, *_) = await world.records.audit.latest(tenant="default", limit=1)
    assert line.receipt == receipt.receipt
    counts = {"faces": 1, "vectors": 1, "crops": 0, "cached_answers": 1, "job_results": 0}
    assert line.counts == counts
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
    assert index_of(collection, OLD) not in await world.vectors.collections()
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
    await world.records.faces._rows.change([half], {"state": "pending", "owner": "gone"})
    await world.records.faces.begin_forgetting([doomed])
    service, _ = collections_on(world.vectors, world.records, tmp_path, world.embedder)
    async with service.running():
        pass
    points = await world.vectors.scroll(index_of(collection, OLD), limit=10)
    assert [point.face_id for point in points.points] == [kept]
    assert await world.records.faces.count_crops(collection.id) == 1
    assert not await world.records.faces.in_state("pending")
    assert not await world.records.faces.in_state("deleting")


async def test_drift_is_found_and_mended(world: World) -> None:
    collection = await make(world)
    lost, orphan, kept = await enrol(world, 1, 2, 3)
    home = index_of(collection, OLD)
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
