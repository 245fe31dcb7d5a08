"""Collections and faces for the tests of records."""

import uuid
from dataclasses import replace

from gateway.records.store import RecordStore
from gateway.records.types import CollectionRecord, CollectionSettings, FaceRecord

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
