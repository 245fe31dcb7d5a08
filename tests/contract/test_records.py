"""Contract of the records, on SQLite and on PostgreSQL."""

import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.errors import ConflictError
from gateway.records import migrations
from gateway.records.encryption import FileKeyCipher
from gateway.records.store import RecordStore
from gateway.records.types import (
    AuditLine,
    ClusterRun,
    FaceRecord,
    Migration,
    SealedCrop,
)
from tests.support.face_records import LATER, OTHER, SPACE, a_collection, a_face, enrolled


def newest_revision() -> str:
    folder = Path(str(migrations.__file__)).parent / "versions"
    return max(path.stem[1:5] for path in folder.glob("r[0-9]*.py"))


async def test_records_report_health_and_calls(records: RecordStore) -> None:
    name, _, tables = (await records.health()).partition(", ")
    assert name in ("SQLite", "PostgreSQL")
    assert tables == f"tables {newest_revision()}"
    calls: list[tuple[str, float, bool]] = []
    records.observe(lambda *call: calls.append(call))
    collection = a_collection()
    await records.collections.add(collection)
    assert await records.collections.get(collection.id) is not None
    with pytest.raises(ConflictError):
        await records.collections.add(replace(collection, id=str(uuid.uuid4())))
    assert [(call[0], call[2]) for call in calls] == [
        ("write", True),
        ("read", True),
        ("write", True),
    ], "a taken name is not a failure"
    assert all(0 <= call[1] < 60 for call in calls)


async def test_a_collection_is_read_back_unchanged(records: RecordStore) -> None:
    collection = a_collection()
    await records.collections.add(collection)
    assert await records.collections.find(tenant="default", name="people") == collection
    assert await records.collections.get(collection.id) == collection
    assert await records.collections.find(tenant="other", name="people") is None


async def test_names_are_unique_per_tenant(records: RecordStore) -> None:
    await records.collections.add(a_collection())
    await records.collections.add(a_collection(tenant="other"))
    with pytest.raises(ConflictError):
        await records.collections.add(a_collection())


async def test_collections_are_paged_by_name(records: RecordStore) -> None:
    for name in ("c", "a", "d", "b"):
        await records.collections.add(a_collection(name))
    deleting = a_collection("bb")
    await records.collections.add(deleting)
    await records.collections.mark_deleting(deleting.id)
    first = await records.collections.page(tenant="default", limit=2, after=None)
    second = await records.collections.page(tenant="default", limit=9, after="b")
    assert [c.name for c in first + second] == ["a", "b", "c", "d"]


async def test_the_first_space_is_kept(records: RecordStore) -> None:
    collection = a_collection()
    await records.collections.add(collection)
    await records.collections.set_space(collection.id, space=SPACE, dimension=128)
    await records.collections.set_space(collection.id, space=OTHER, dimension=512)
    migration = Migration(SPACE, OTHER, "backfill", 3, 1)
    await records.collections.set_migration(collection.id, migration)
    found = await records.collections.get(collection.id)
    assert found is not None
    assert (found.space, found.dimension, found.migration) == (SPACE, 128, migration)
    assert await records.collections.spaces() == [SPACE, OTHER]


async def test_only_committed_faces_exist(records: RecordStore) -> None:
    collection = a_collection()
    await records.collections.add(collection)
    pending, committed, deleting = (a_face(collection, i) for i in range(3))
    await records.faces.begin([pending, committed, deleting])
    await records.faces.commit([committed.id, deleting.id])
    await records.faces.begin_forgetting([deleting.id])
    expected = replace(committed, state="committed")
    assert await records.faces.page(collection.id, limit=9) == (expected,)
    assert await records.faces.of_subject(collection.id, "anna") == (expected,)
    assert await records.faces.count(collection.id) == (1, 1)
    assert [f.id for f in await records.faces.in_state("pending")] == [pending.id]
    assert [f.id for f in await records.faces.in_state("deleting")] == [deleting.id]
    every = [pending.id, committed.id, deleting.id]
    assert await records.faces.get(collection.id, every) == (expected,)


async def test_all_or_none_of_the_pending_faces_are_committed(records: RecordStore) -> None:
    collection = a_collection()
    await records.collections.add(collection)
    kept, gone = a_face(collection, 0), a_face(collection, 1)
    await records.faces.begin([kept, gone])
    await records.faces.remove([gone.id])
    assert not await records.faces.commit([kept.id, gone.id])
    assert [face.id for face in await records.faces.in_state("pending")] == [kept.id]
    assert await records.faces.commit([kept.id])
    assert not await records.faces.commit([kept.id]), "it is pending no longer"


async def test_faces_of_equal_time_are_paged_once_each(records: RecordStore) -> None:
    collection, faces = await enrolled(records, 20)
    seen: list[FaceRecord] = []
    after = None
    while page := await records.faces.page(collection.id, limit=4, after=after):
        seen += page
        after = (page[-1].created_at, page[-1].id)
    assert seen == faces


async def test_faces_by_image_and_by_time(records: RecordStore) -> None:
    collection, faces = await enrolled(records, 5)
    assert await records.faces.of_image(collection.id, faces[3].image_sha256 or "") == (faces[3],)
    expired = await records.faces.expired(at=LATER + 2, limit=10)
    assert {face.id for face in expired} == {face.id for face in faces[:3]}


async def test_removing_a_collection_removes_its_contents(
    records: RecordStore, tmp_path: Path
) -> None:
    collection, faces = await enrolled(records, 2)
    cipher = FileKeyCipher.load(tmp_path / "crops.key")
    extra = replace(a_face(collection, 7), id=str(uuid.uuid4()))
    await records.faces.begin([extra], [SealedCrop.of(extra.id, cipher.seal(extra.id, b"x"))])
    run = ClusterRun("r1", collection.id, "running", 0.4, 2, 0, None, 1.0, None)
    await records.clusters.begin(run)
    await records.clusters.finish(run, {faces[0].id: "k1"}, at=2.0)
    await records.collections.remove(collection.id)
    assert not await records.faces.crops([extra.id])
    assert await records.clusters.latest(collection.id) is None
    assert not await records.clusters.members(collection.id)


async def test_spaces_of_faces_follow_a_migration(records: RecordStore) -> None:
    collection, faces = await enrolled(records, 6)
    ids = [face.id for face in faces]
    assert len(await records.face_spaces.not_in_space(collection.id, OTHER, limit=4)) == 4
    await records.face_spaces.mark_copied(ids[:5], OTHER)
    (left,) = await records.face_spaces.not_in_space(collection.id, OTHER, limit=4)
    assert left.id == ids[5]
    assert await records.face_spaces.count_copied(collection.id, OTHER) == 5
    await records.face_spaces.move_space(collection.id, source=SPACE, target=OTHER)
    moved = await records.faces.get(collection.id, ids)
    assert {(f.space, f.copied_to) for f in moved if f.id != ids[5]} == {(OTHER, SPACE)}
    assert {(f.space, f.copied_to) for f in moved if f.id == ids[5]} == {(SPACE, None)}
    await records.face_spaces.forget_copies(collection.id, SPACE)
    assert await records.face_spaces.count_copied(collection.id, SPACE) == 1


async def test_audit_lines_are_listed_newest_first(records: RecordStore) -> None:
    lines = [
        AuditLine(float(i), "default", "local", "forget_face", "people", f"r{i}", {"faces": i}, "q")
        for i in range(3)
    ]
    for line in lines:
        await records.audit.add(line)
    assert await records.audit.latest(tenant="default", limit=2) == [lines[2], lines[1]]
    assert not await records.audit.latest(tenant="other", limit=2)


async def test_groups_are_replaced_atomically(records: RecordStore) -> None:
    collection, faces = await enrolled(records, 5)
    run = ClusterRun("r1", collection.id, "running", 0.4, 5, 0, None, 1.0, None)
    await records.clusters.begin(run)
    await records.clusters.progress(run, 3)
    latest = await records.clusters.latest(collection.id)
    assert latest == replace(run, done=3)
    assert await records.clusters.running() == (latest,)
    members = {face.id: ("k1" if i < 3 else f"k{i}") for i, face in enumerate(faces)}
    # one was deleted in between
    await records.faces.begin_forgetting([faces[4].id])
    await records.clusters.finish(run, members, at=2.0)
    groups = await records.clusters.page(collection.id, limit=9, after=None)
    assert [(g.cluster_id, g.size, g.subjects) for g in groups] == [
        ("k1", 3, {"anna": 3}),
        ("k3", 1, {"anna": 1}),
    ]
    assert [g.cluster_id for g in await records.clusters.page(collection.id, limit=9, after="k1")]
    second = replace(run, run_id="r2")
    await records.clusters.begin(second)
    await records.clusters.fail(second, "stopped", at=3.0)
    assert len(await records.clusters.page(collection.id, limit=9, after=None)) == 2
