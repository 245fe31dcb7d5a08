"""Contract of the records for subjects and duplicate images, on both databases."""

import asyncio
import re
import sqlite3
import time
import uuid
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select, text
from sqlalchemy.exc import IntegrityError

from gateway.records import admission as admission_module
from gateway.records.engines import sqlite_url
from gateway.records.store import RecordStore
from gateway.records.tables import FACES
from gateway.records.types import Answered, Begun, Claim, CollectionRecord, FaceRecord, KeptAnswer
from tests.support.face_records import a_collection, a_face, enrolled
from tests.support.records import SetClock


def again(face: FaceRecord, **changes: Any) -> FaceRecord:
    """Return the same image again, as in a new request."""
    return replace(face, id=str(uuid.uuid4()), state="pending", **changes)


async def added(records: RecordStore, **changes: Any) -> CollectionRecord:
    collection = replace(a_collection(), **changes)
    await records.collections.add(collection)
    return collection


async def wrote(records: RecordStore, *faces: FaceRecord) -> Begun:
    begun = await records.faces.begin(faces)
    await records.faces.commit([face.id for face in begun.faces])
    return begun


# Duplicates ------------------------------------------------------------------------------------


async def test_an_image_is_stored_once_per_subject(records: RecordStore) -> None:
    collection = await added(records)
    first, other = a_face(collection, 0), a_face(collection, 1)
    begun = await records.faces.begin([first])
    assert (begun.faces, begun.known, begun.busy) == ((first,), {}, False)
    # until it is acknowledged, nobody knows whether it is stored
    assert (await records.faces.begin([other, again(first)])).busy
    assert await records.faces.get(collection.id, [other.id]) == ()
    await records.faces.commit([first.id])
    begun = await wrote(records, other, again(first))
    assert begun.faces == (other,)
    assert begun.known == {first.claim: (replace(first, state="committed"),)}
    # for another subject or in another collection it is a new image
    assert len((await wrote(records, again(first, subject="bert"))).faces) == 1
    elsewhere = await added(records, id=str(uuid.uuid4()), name="others")
    assert len((await wrote(records, again(first, collection_id=elsewhere.id))).faces) == 1
    assert (await records.faces.count(collection.id))[0] == 3


async def test_an_image_may_have_several_faces(records: RecordStore) -> None:
    collection = await added(records)
    group = [again(a_face(collection, 0), box=(at, 0.0, at + 9, 9.0)) for at in (0.0, 20.0, 40.0)]
    assert len((await wrote(records, *group)).faces) == 3
    begun = await wrote(records, *(again(face) for face in group))
    assert begun.faces == ()
    (known,) = begun.known.values()
    assert {face.id for face in known} == {face.id for face in group}
    # without a subject each face is its own subject, and the image is known for all of them
    nameless = again(group[0])
    assert (await wrote(records, replace(nameless, subject=nameless.id))).faces == ()
    await records.faces.remove([face.id for face in group])
    for _ in range(2):
        found = [again(face) for face in group]
        await wrote(records, *(replace(face, subject=face.id) for face in found))
    assert await records.faces.count(collection.id) == (3, 3)


async def test_embeddings_without_an_image_are_never_duplicates(records: RecordStore) -> None:
    collection = await added(records)
    raw = replace(a_face(collection), image_sha256=None)
    await wrote(records, again(raw), again(raw))
    await wrote(records, again(raw))
    assert await records.faces.count(collection.id) == (3, 1)


async def test_the_database_refuses_a_duplicate(records: RecordStore) -> None:
    collection = await added(records)
    face = a_face(collection)
    rows = [face, again(face)]
    await wrote(records, rows[0])
    async with records._database.read() as connection:
        (row,) = (await connection.execute(select(FACES))).mappings().all()
    with pytest.raises(IntegrityError):
        async with records._database.write() as connection:
            await connection.execute(FACES.insert().values({**row, "id": rows[1].id}))


async def test_simultaneous_batches_store_each_image_once(records: RecordStore) -> None:
    """Several connections begin at once; PostgreSQL runs them concurrently."""
    collection = await added(records)
    faces = [a_face(collection, number) for number in range(6)]

    async def enrol(start: int) -> int:
        batch = [again(face) for face in faces[start:] + faces[:start]]
        while True:
            try:
                begun = await records.faces.begin(batch)
            except IntegrityError:
                continue
            if begun.busy:
                await asyncio.sleep(0.005)
                continue
            await records.faces.commit([face.id for face in begun.faces])
            return len(begun.faces)

    written = await asyncio.gather(*(enrol(start % 6) for start in range(12)))
    assert sum(written) == 6
    assert await records.faces.count(collection.id) == (6, 1)


async def test_a_face_under_deletion_releases_its_image(records: RecordStore) -> None:
    collection, (face,) = await enrolled(records, 1)
    await records.faces.begin_forgetting([face.id])
    assert len((await wrote(records, again(face))).faces) == 1
    await records.faces.remove([face.id])
    assert await records.faces.count(collection.id) == (1, 1)
    assert await records.subjects.get(collection.id, "anna", at=time.time()) is not None


# Expiry ----------------------------------------------------------------------------------------


async def test_a_face_expires_on_time_whenever_the_sweep_runs(
    records: RecordStore, set_clock: SetClock
) -> None:
    collection = await added(records)
    over = replace(a_face(collection), expires_at=set_clock.now() + 0.3)
    stays = a_face(collection, 1, "bert")
    await wrote(records, over, stays)
    claim = await records.idempotency.begin(tenant="default", key="k", fingerprint="f")
    assert isinstance(claim, Claim)
    answer = KeptAnswer(claim, 201, "{}", face_ids=(over.id,))
    await records.idempotency.finish(answer)
    kept = await records.idempotency.begin(tenant="default", key="k", fingerprint="f")
    assert isinstance(kept, Answered)
    assert kept.body == "{}"
    assert await records.faces.count(collection.id) == (2, 2)
    assert await records.faces.over_ids(collection.id, at=set_clock.now()) == ()
    set_clock.move(0.35)
    (left,) = await records.faces.page(collection.id, limit=9)
    assert left.id == stays.id
    assert await records.faces.count(collection.id) == (1, 1)
    assert await records.faces.get(collection.id, [over.id]) == ()
    assert await records.faces.of_subject(collection.id, "anna") == ()
    assert await records.faces.of_image(collection.id, over.image_sha256 or "") == ()
    assert await records.faces.ids(collection.id) == {stays.id}
    assert len(await records.face_spaces.not_in_space(collection.id, "0" * 16, limit=9)) == 1
    assert await records.faces.over_ids(collection.id, at=set_clock.now()) == (over.id,)
    assert await records.subjects.get(collection.id, "anna", at=set_clock.now()) is None
    kept = await records.idempotency.begin(tenant="default", key="k", fingerprint="f")
    assert isinstance(kept, Answered)
    assert (kept.status, kept.body) == (201, None)
    # repair and deletion see it until it is removed
    assert len(await records.faces.page(collection.id, limit=9, over=True)) == 2
    assert len(await records.faces.get(collection.id, [over.id], over=True)) == 1


async def test_an_expired_image_is_enrolled_anew(records: RecordStore, set_clock: SetClock) -> None:
    collection = await added(records)
    over = replace(a_face(collection), expires_at=set_clock.now() + 0.2)
    await wrote(records, over)
    changes = {"display_name": "Anna", "metadata": {"vip": True}}
    assert await records.subjects.change(collection.id, "anna", changes, at=5.0) is not None
    set_clock.move(0.25)
    assert await records.subjects.get(collection.id, "anna", at=set_clock.now()) is None
    assert await records.subjects.change(collection.id, "anna", changes, at=set_clock.now()) is None
    new = again(over, expires_at=None)
    assert (await wrote(records, new)).faces == (new,)
    subject = await records.subjects.get(collection.id, "anna", at=set_clock.now())
    assert subject is not None
    assert (subject.display_name, subject.metadata, subject.faces) == (None, {}, 1)
    await records.faces.remove([over.id])
    assert await records.subjects.get(collection.id, "anna", at=set_clock.now()) == subject


# Subjects ------------------------------------------------------------------------------------


async def test_a_subject_has_a_record_while_it_has_a_face(records: RecordStore) -> None:
    collection, faces = await enrolled(records, 2, "José")
    now = time.time()
    subject = await records.subjects.get(collection.id, "José", at=now)
    assert subject is not None
    assert (subject.faces, subject.display_name, subject.metadata) == (2, None, {})
    await records.faces.remove([faces[0].id])
    assert await records.subjects.get(collection.id, "José", at=now) == replace(subject, faces=1)
    await records.faces.remove([faces[1].id])
    assert await records.subjects.get(collection.id, "José", at=now) is None
    # an enrolment that was rolled back leaves none either
    await records.faces.begin([again(faces[0])])
    assert await records.subjects.page(collection.id, at=now, limit=9) == ()
    (pending,) = await records.faces.in_state("pending")
    await records.faces.remove([pending.id])
    async with records._database.read() as connection:
        assert (await connection.scalar(text("SELECT count(*) FROM subjects"))) == 0


async def test_an_edited_record_is_kept(records: RecordStore) -> None:
    collection, (face,) = await enrolled(records, 1)
    changes = {"display_name": "Anna Bell", "external_id": "E-7", "metadata": {"n": 2**53}}
    changed = await records.subjects.change(collection.id, "anna", changes, at=77.0)
    assert changed is not None
    assert (changed.display_name, changed.external_id, changed.updated_at) == (
        "Anna Bell",
        "E-7",
        77.0,
    )
    only = await records.subjects.change(collection.id, "anna", {"external_id": None}, at=78.0)
    assert only == replace(changed, external_id=None, updated_at=78.0)
    await records.faces.remove([face.id])
    now = time.time()
    assert await records.subjects.get(collection.id, "anna", at=now) == replace(only, faces=0)
    assert await records.faces.count(collection.id) == (0, 1)
    await wrote(records, again(face))
    assert await records.subjects.get(collection.id, "anna", at=now) == only
    await records.subjects.wipe(collection.id, "anna")
    blank = await records.subjects.get(collection.id, "anna", at=now)
    assert blank is not None
    assert (blank.display_name, blank.metadata, blank.faces) == (None, {}, 1)
    assert await records.subjects.change(collection.id, "none", changes, at=1.0) is None
    await records.collections.remove(collection.id)
    assert await records.subjects.get(collection.id, "anna", at=now) is None


async def test_a_record_expires_with_its_last_face(
    records: RecordStore, set_clock: SetClock
) -> None:
    collection = await added(records)
    face = replace(a_face(collection), expires_at=set_clock.now() + 0.2)
    await wrote(records, face)
    change = {"display_name": "Anna"}
    assert await records.subjects.change(collection.id, "anna", change, at=1.0) is not None
    set_clock.move(0.25)
    for step in (
        records.faces.begin_forgetting([face.id]),
        records.faces.remove([face.id]),
        asyncio.sleep(0),
    ):
        assert await records.subjects.get(collection.id, "anna", at=set_clock.now()) is None
        assert await records.faces.count(collection.id) == (0, 0)
        await step


async def test_subjects_are_listed_by_name_and_found_by_text(records: RecordStore) -> None:
    collection = await added(records)
    names = ["anna", "Bert_1", "José Ortega", "李明", "O'Brien", "100%"]
    faces = [a_face(collection, number, name) for number, name in enumerate(names)]
    await wrote(records, *faces, again(faces[0], image_sha256="f" * 64))
    await records.subjects.change(
        collection.id, "anna", {"display_name": "Anna Łukasz", "external_id": "HR/42"}, at=1.0
    )
    now = time.time()
    everyone = await records.subjects.page(collection.id, at=now, limit=9)
    assert sorted(each.name for each in everyone) == sorted(names)
    assert {each.name: each.faces for each in everyone}["anna"] == 2
    seen: list[str] = []
    while page := await records.subjects.page(
        collection.id, at=now, limit=2, after=seen[-1] if seen else None
    ):
        seen += [each.name for each in page]
    assert seen == [each.name for each in everyone]
    for words, expected in (
        ("jose", ["José Ortega"]),
        ("ORTEGA josé", ["José Ortega"]),
        ("明", ["李明"]),
        ("hr/42", ["anna"]),
        ("bell", []),
        ("%", ["100%"]),
        ("t_1", ["Bert_1"]),
        ("tx1", []),
        ("o'b", ["O'Brien"]),
    ):
        found = await records.subjects.page(collection.id, at=now, limit=9, text=words)
        assert [each.name for each in found] == expected, words


async def test_a_record_exists_whichever_transaction_is_first(
    records: RecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A subject's last face is removed while another face is being stored."""
    collection, (last,) = await enrolled(records, 1)
    begun, release = asyncio.Event(), admission_module._release

    async def slowly(*arguments: Any) -> None:
        begun.set()
        await asyncio.sleep(0.3)
        await release(*arguments)

    monkeypatch.setattr(admission_module, "_release", slowly)
    writing = asyncio.create_task(wrote(records, a_face(collection, 1)))
    await begun.wait()
    await records.faces.remove([last.id])
    await writing
    subject = await records.subjects.get(collection.id, "anna", at=time.time())
    assert subject is not None
    assert subject.faces == 1


async def test_sqlite_reads_only_a_few_rows(tmp_path: Path) -> None:
    """The queries of a request cost the same in a large collection."""
    file = tmp_path / "records.sqlite3"
    records = await RecordStore.open(sqlite_url(file))
    asked: list[tuple[str, Any]] = []

    def note(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        asked.append((statement, parameters))

    event.listen(records._database._reads.sync_engine, "before_cursor_execute", note)
    try:
        collection, (face,) = await enrolled(records, 1)
        at = time.time()
        await records.faces.begin([again(face), a_face(collection, 7)])
        await records.faces.over_ids(collection.id, at=at)
        await records.faces.expired(at=at, limit=9)
        await records.faces.of_image(collection.id, "0" * 64)
        await records.faces.in_state("pending")
        await records.subjects.get(collection.id, "anna", at=at)
        await records.subjects.page(collection.id, at=at, limit=9)
        await records.subjects.wipe(collection.id, "anna")
        await records.faces.remove([face.id])
    finally:
        await records.close()
    with closing(sqlite3.connect(file)) as connection:
        for statement, parameters in asked:
            if "faces" not in statement or statement.startswith("INSERT"):
                continue
            row = parameters[0] if isinstance(parameters, list) else parameters
            plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", row).fetchall()
            for *_, step in plan:
                # an index on the collection or the state alone would read nearly all faces
                assert "ix_faces_state" not in step or "state != " in statement, statement
                assert not re.search(r"SCAN faces|faces.*\(collection_id=\?\)$", step), statement
