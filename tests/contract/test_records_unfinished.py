"""Enrolments that never ended: given up by others, and withdrawn by the process that failed."""

from collections.abc import Sequence

from sqlalchemy import update

from gateway.records.store import RecordStore
from gateway.records.tables import FACES, PROCESSES
from gateway.records.types import FaceRecord
from tests.support.face_records import a_collection, a_face


async def begun(records: RecordStore, number: int) -> tuple[FaceRecord, ...]:
    """Faces whose vectors are being written."""
    collection = a_collection()
    await records.collections.add(collection)
    faces = tuple(a_face(collection, each) for each in range(number))
    await records.faces.begin(faces)
    return faces


async def given_up(
    records: RecordStore, faces: Sequence[FaceRecord], *, begun_before: float | None
) -> list[str]:
    """Ids of those that are given up."""
    return [f.id for f in await records.unfinished.give_up(faces, begun_before=begun_before)]


async def test_faces_of_a_process_that_is_gone_are_given_up(records: RecordStore) -> None:
    other = RecordStore(records._database)
    other.presence.lease_seconds = 60.0
    async with other.presence.lasting():
        faces = await begun(other, 2)
    ids = [face.id for face in faces]
    assert await given_up(records, faces, begun_before=0.0) == [], "the lease runs"
    async with records._database.write() as connection:
        its = PROCESSES.c.id == other.presence.id
        await connection.execute(update(PROCESSES).where(its).values(lease_until=0.0))
    assert await given_up(records, faces, begun_before=0.0) == ids
    assert await given_up(records, faces, begun_before=0.0) == []
    # the process was only paused
    async with other.presence.lasting():
        assert not await other.faces.commit(ids)


async def test_faces_of_a_process_that_lives_are_given_up_by_their_age(
    records: RecordStore,
) -> None:
    async with records.presence.lasting():
        faces = await begun(records, 2)
        at = faces[0].created_at
        assert await given_up(records, faces, begun_before=at) == []
        assert await given_up(records, faces, begun_before=at + 1) == [face.id for face in faces]


async def test_at_a_start_faces_of_others_that_live_are_left_alone(records: RecordStore) -> None:
    async with records.presence.lasting():
        mine, nobodys = await begun(records, 2)
        await records.faces._rows.change([nobodys.id], {"owner": None})
        found = await given_up(records, [mine, nobodys], begun_before=None)
        # where one process writes, nobody else is there
        alone = records._database.has_one_writer
        assert found == ([mine.id, nobodys.id] if alone else [nobodys.id])


async def test_faces_of_an_enrolment_that_succeeded_unnoticed_stay(records: RecordStore) -> None:
    faces = await begun(records, 2)
    ids = [face.id for face in faces]
    assert await records.faces.commit(ids)
    assert not await records.unfinished.withdraw(faces)
    assert len(await records.faces.get(faces[0].collection_id, ids)) == 2
    async with records._database.write() as connection:
        await connection.execute(update(FACES).values(state="pending"))
    assert await records.unfinished.withdraw(faces)
    assert not await records.faces.commit(ids)
    assert await records.unfinished.withdraw(faces), "they are withdrawn, and do not exist"
