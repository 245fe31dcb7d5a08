"""Contract of the records, on SQLite and on PostgreSQL."""

import asyncio
import subprocess
import sys
import time
import uuid
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from gateway.errors import ConfigurationError, ConflictError, StorageUnavailableError
from gateway.records import migrations
from gateway.records.database import Database
from gateway.records.encryption import FileKeyCipher
from gateway.records.store import RecordStore
from gateway.records.tables import METADATA
from gateway.records.types import (
    AuditLine,
    ClusterRun,
    CollectionRecord,
    CollectionSettings,
    FaceRecord,
    Migration,
    SealedCrop,
)

SPACE = "00000000000000a1"
OTHER = "00000000000000b2"
LATER = 9e9
"""Expiry of faces: long after the tests."""


def a_collection(name: str = "people", tenant: str = "default") -> CollectionRecord:
    return CollectionRecord(
        id=str(uuid.uuid4()),
        tenant=tenant,
        name=name,
        state="active",
        settings=CollectionSettings(keep="crop", retention_days=2.5),
        space=None,
        dimension=None,
        migration=None,
        created_at=10.0,
        updated_at=10.0,
    )


def a_crop(cipher: FileKeyCipher, face_id: str, crop: bytes) -> SealedCrop:
    return SealedCrop.of(face_id, cipher.seal(face_id, crop))


def a_face(collection: CollectionRecord, number: int = 0, subject: str = "anna") -> FaceRecord:
    return FaceRecord(
        id=str(uuid.UUID(int=number + 1)),
        collection_id=collection.id,
        subject=subject,
        space=SPACE,
        created_at=100.0 + number // 3,
        image_sha256=f"{number:064x}",
        box=(1.0, 2.0, 3.5, 4.0),
        quality={"size": 80.5},
        metadata={"team": "red", "age": 30, "tall": True, "score": 0.5},
        detector=OTHER,
        expires_at=LATER + number,
    )


async def enrolled(
    records: RecordStore, number: int, subject: str = "anna"
) -> tuple[CollectionRecord, list[FaceRecord]]:
    collection = a_collection()
    await records.collections.add(collection)
    faces = [a_face(collection, i, subject) for i in range(number)]
    await records.faces.begin(faces)
    await records.faces.commit([face.id for face in faces])
    return collection, [replace(face, state="committed") for face in faces]


async def test_migrations_produce_the_tables_of_the_code(database_url: str) -> None:
    database = await Database.open(database_url)

    def compare(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), METADATA))

    try:
        async with database.read() as connection:
            assert await connection.run_sync(compare) == []
    finally:
        await database.close()


async def test_simultaneous_starts_migrate_once(database_url: str) -> None:
    stores = await asyncio.gather(*(RecordStore.open(database_url) for _ in range(4)))
    try:
        await stores[0].collections.add(a_collection())
        for store in stores:
            assert await store.collections.find(tenant="default", name="people") is not None
    finally:
        for store in stores:
            await store.close()


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


async def test_removal_counts_the_crops(records: RecordStore, tmp_path: Path) -> None:
    cipher = FileKeyCipher.load(tmp_path / "crops.key")
    collection = a_collection()
    await records.collections.add(collection)
    faces = [a_face(collection, i) for i in range(1200)]
    crops = [a_crop(cipher, face.id, b"crop of " + face.id.encode()) for face in faces[:700]]
    await records.faces.begin(faces, crops)
    await records.faces.commit([face.id for face in faces])
    (crop,) = await records.faces.crops([faces[0].id, faces[-1].id])
    assert cipher.open(crop.face_id, crop.bytes_only) == b"crop of " + faces[0].id.encode()
    assert await records.faces.count_crops(collection.id) == 700
    assert await records.faces.remove([face.id for face in faces]) == 700
    assert await records.faces.count(collection.id) == (0, 0)
    assert await records.faces.count_crops(collection.id) == 0


async def test_removing_a_collection_removes_its_contents(
    records: RecordStore, tmp_path: Path
) -> None:
    collection, faces = await enrolled(records, 2)
    cipher = FileKeyCipher.load(tmp_path / "crops.key")
    extra = replace(a_face(collection, 7), id=str(uuid.uuid4()))
    await records.faces.begin([extra], [a_crop(cipher, extra.id, b"x")])
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
    assert len(await records.faces.not_in_space(collection.id, OTHER, limit=4)) == 4
    await records.faces.mark_copied(ids[:5], OTHER)
    (left,) = await records.faces.not_in_space(collection.id, OTHER, limit=4)
    assert left.id == ids[5]
    assert await records.faces.count_copied(collection.id, OTHER) == 5
    await records.faces.move_space(collection.id, source=SPACE, target=OTHER)
    moved = await records.faces.get(collection.id, ids)
    assert {(f.space, f.copied_to) for f in moved if f.id != ids[5]} == {(OTHER, SPACE)}
    assert {(f.space, f.copied_to) for f in moved if f.id == ids[5]} == {(SPACE, None)}
    await records.faces.forget_copies(collection.id, SPACE)
    assert await records.faces.count_copied(collection.id, SPACE) == 1


async def test_an_idempotency_key_is_claimed_once(
    records: RecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = {"tenant": "default", "key": "k", "fingerprint": "f"}
    claims = await asyncio.gather(*(records.idempotency.begin(**claim) for _ in range(8)))
    assert sum(claimed is None for claimed in claims) == 1
    await records.idempotency.finish(tenant="default", key="k", status=201, body='{"faces": []}')
    again = await records.idempotency.begin(**claim)
    assert again is not None
    assert (again.status, again.body) == (201, '{"faces": []}')
    assert await records.idempotency.begin(**{**claim, "tenant": "other"}) is None
    tomorrow = time.time() + 86_401
    monkeypatch.setattr(time, "time", lambda: tomorrow)
    assert await records.idempotency.begin(**claim) is None
    await records.idempotency.give_back(tenant="default", key="k")
    assert await records.idempotency.begin(**claim) is None
    await records.idempotency.give_back_unfinished()
    # another gateway may be answering the request, but for a database of one process
    alone = records.idempotency._database.has_one_writer
    assert (await records.idempotency.begin(**claim) is None) == alone
    later = tomorrow + 901
    monkeypatch.setattr(time, "time", lambda: later)
    await records.idempotency.give_back_unfinished()
    assert await records.idempotency.begin(**claim) is None


async def test_a_stored_answer_is_removed_with_the_first_face_that_it_names(
    records: RecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, faces = await enrolled(records, 3)
    for key, named in (("both", faces[:2]), ("other", faces[2:])):
        await records.idempotency.begin(tenant="default", key=key, fingerprint="f")
        ids = [each.id for each in named]
        await records.idempotency.finish(
            tenant="default", key=key, status=201, body=" ".join(ids), face_ids=[*ids, ids[0]]
        )
    await records.faces.remove([faces[1].id])
    gone = await records.idempotency.begin(tenant="default", key="both", fingerprint="f")
    assert gone is not None
    assert (gone.status, gone.body) == (201, None)
    kept = await records.idempotency.begin(tenant="default", key="other", fingerprint="f")
    assert kept is not None
    assert kept.body == faces[2].id
    # a day later the keys are free, whatever their answers named
    tomorrow = time.time() + 86_401
    monkeypatch.setattr(time, "time", lambda: tomorrow)
    for key in ("both", "other"):
        assert await records.idempotency.begin(tenant="default", key=key, fingerprint="f") is None


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


async def test_an_aborted_transaction_changes_nothing(records: RecordStore) -> None:
    collection = a_collection()
    await records.collections.add(collection)
    face = a_face(collection)
    await records.faces.begin([face])
    other = replace(face, id=str(uuid.uuid4()), image_sha256="1" * 64)
    again = replace(face, image_sha256="2" * 64)
    with pytest.raises(Exception, match=r"(?i)unique"):
        await records.faces.begin([other, again])
    assert [f.id for f in await records.faces.in_state("pending")] == [face.id]


_WRITER = """
import asyncio, sys
from gateway.records.store import RecordStore
from tests.contract.test_records import a_collection
async def main():
    records = await RecordStore.open(sys.argv[1])
    number = 0
    while True:
        await records.collections.add(a_collection(f"c{number}"))
        sys.stdout.write(f"{number}\\n"); sys.stdout.flush()
        number += 1
asyncio.run(main())
"""


async def test_a_killed_writer_loses_nothing_acknowledged(database_url: str) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, database_url],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert writer.stdout is not None
    last = -1
    try:
        while last < 50:
            last = int(await asyncio.to_thread(writer.stdout.readline))
    finally:
        writer.kill()
        said, _ = writer.communicate()
    numbers = [last, *map(int, said.split())]
    records = await RecordStore.open(database_url)
    try:
        found = await records.collections.page(tenant="default", limit=100_000, after=None)
        assert {f"c{n}" for n in range(max(numbers) + 1)} <= {c.name for c in found}
    finally:
        await records.close()


async def test_the_error_names_an_unknown_kind_of_database() -> None:
    with pytest.raises(ConfigurationError, match=r"AURUM_DATABASE_URL.*mysql"):
        await RecordStore.open("mysql://localhost/x")


async def test_a_missing_database_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailableError):
        await RecordStore.open(f"postgresql://postgres@/x?host={tmp_path}")


def test_a_crop_opens_only_with_its_key_and_for_its_face(tmp_path: Path) -> None:
    cipher = FileKeyCipher.load(tmp_path / "keys" / "crops.key")
    again = FileKeyCipher.load(tmp_path / "keys" / "crops.key")
    sealed = cipher.seal("face-1", b"pixels")
    assert again.open("face-1", sealed) == b"pixels"
    assert b"pixels" not in sealed.sealed
    with pytest.raises(ConfigurationError, match="changed"):
        again.open("face-2", sealed)
    other = FileKeyCipher.load(tmp_path / "other.key")
    with pytest.raises(ConfigurationError, match="sealed with key"):
        other.open("face-1", sealed)
    assert (tmp_path / "keys" / "crops.key").stat().st_mode & 0o777 == 0o600
