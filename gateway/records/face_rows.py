"""Rows of the table of faces, to and from records of faces."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Select, select, update
from sqlalchemy.engine import RowMapping

from gateway.records import clock
from gateway.records.database import Database
from gateway.records.metadata_seal import MetadataSeal, StoredMetadata, face_name
from gateway.records.subjects import living
from gateway.records.tables import FACES
from gateway.records.types import FaceRecord

_IDS_AT_ONCE: Final = 500
COLUMNS: Final = tuple(
    column for column in FACES.c if column.name not in ("claim", "kept_until", "owner")
)
"""The columns of a record."""


class FaceRows:
    """Reads and changes rows of faces, whose metadata may be sealed."""

    def __init__(self, database: Database, seal: MetadataSeal) -> None:
        self._database = database
        self._seal = seal

    async def all(self, query: Select[Any]) -> tuple[FaceRecord, ...]:
        """Return the faces of a query of `COLUMNS`."""
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return tuple(self.record(row) for row in rows)

    async def change(self, face_ids: Sequence[str], values: dict[str, Any]) -> None:
        """Write values into the rows of faces."""
        async with self._database.write() as connection:
            for part in parts(face_ids):
                await connection.execute(update(FACES).where(FACES.c.id.in_(part)).values(values))

    def row(self, face: FaceRecord) -> dict[str, Any]:
        """Make the row of a face, without `claim` and `kept_until`."""
        stored = self._seal.write(face_name(face.id), face.metadata)
        return {
            "id": face.id,
            "collection_id": face.collection_id,
            "subject": face.subject,
            "space": face.space,
            "copied_to": face.copied_to,
            "state": face.state,
            "image_sha256": face.image_sha256,
            "box": None if face.box is None else list(face.box),
            "quality": dict(face.quality),
            "metadata": stored.value,
            "metadata_key_id": stored.key_id,
            "detector": face.detector,
            "created_at": face.created_at,
            "expires_at": face.expires_at,
        }

    def record(self, row: RowMapping) -> FaceRecord:
        """Make the record of a row."""
        values = dict(row)
        stored = StoredMetadata(values["metadata"], values.pop("metadata_key_id"))
        values["metadata"] = self._seal.read(face_name(values["id"]), stored)
        if values["box"] is not None:
            values["box"] = tuple(values["box"])
        return FaceRecord(**values)


def committed(collection_id: str, *, over: bool = False) -> Select[Any]:
    """Select the faces of a collection that exist; over: also those whose time is over."""
    alive = FACES.c.state == "committed" if over else living(clock.now())
    return select(*COLUMNS).where(FACES.c.collection_id == collection_id, alive)


def parts(face_ids: Sequence[str]) -> list[Sequence[str]]:
    """Divide ids for several queries."""
    return [face_ids[i : i + _IDS_AT_ONCE] for i in range(0, len(face_ids), _IDS_AT_ONCE)]
