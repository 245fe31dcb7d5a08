"""Everything in the records that is sealed with a storage key: counted by key, sealed anew."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Column, Table, and_, func, or_, select, tuple_, update

from gateway.errors import ConfigurationError
from gateway.records.database import Database
from gateway.records.encryption import DataCipher
from gateway.records.job_tables import JOB_RESULTS, JOBS
from gateway.records.metadata_seal import (
    StoredMetadata,
    face_name,
    open_metadata,
    seal_metadata,
    subject_name,
)
from gateway.records.people_tables import REFUSED_CROPS, REFUSED_FACES
from gateway.records.tables import CROPS, FACES, SUBJECTS
from gateway.records.types import SealedBytes

_ROWS_AT_ONCE: Final = 200
_SECONDS: Final = 30.0
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SealedKind:
    """A table with sealed columns. name_of: the name to which the bytes of a row are bound."""

    name: str
    table: Table
    key_id: Column[Any]
    primary_key: tuple[Column[Any], ...]
    columns: tuple[Column[Any], ...]
    name_of: Callable[[Row], str]


@dataclass(frozen=True, slots=True)
class Resealed:
    """A page: rows that were looked at, sealed anew, and could not be opened; where it ended."""

    looked_at: int
    changed: int
    unreadable: tuple[str, ...]
    after: tuple[Any, ...] | None


KINDS: Final = (
    SealedKind(
        "crops",
        CROPS,
        CROPS.c.key_id,
        (CROPS.c.face_id,),
        (CROPS.c.nonce, CROPS.c.sealed),
        lambda row: str(row["face_id"]),
    ),
    SealedKind(
        "job results",
        JOB_RESULTS,
        JOB_RESULTS.c.key_id,
        (JOB_RESULTS.c.job_id, JOB_RESULTS.c.index),
        (JOB_RESULTS.c.nonce, JOB_RESULTS.c.sealed),
        lambda row: f"result/{row['job_id']}/{row['index']:06d}",
    ),
    SealedKind(
        "refused faces",
        REFUSED_FACES,
        REFUSED_FACES.c.key_id,
        (REFUSED_FACES.c.id,),
        (REFUSED_FACES.c.nonce, REFUSED_FACES.c.sealed),
        lambda row: f"refusal/{row['id']}",
    ),
    SealedKind(
        "crops of refused faces",
        REFUSED_CROPS,
        REFUSED_CROPS.c.key_id,
        (REFUSED_CROPS.c.refusal_id,),
        (REFUSED_CROPS.c.nonce, REFUSED_CROPS.c.sealed),
        lambda row: f"refusal-crop/{row['refusal_id']}",
    ),
    SealedKind(
        "metadata of faces",
        FACES,
        FACES.c.metadata_key_id,
        (FACES.c.id,),
        (FACES.c.metadata,),
        lambda row: face_name(row["id"]),
    ),
    SealedKind(
        "metadata of subjects",
        SUBJECTS,
        SUBJECTS.c.metadata_key_id,
        (SUBJECTS.c.collection_id, SUBJECTS.c.name),
        (SUBJECTS.c.metadata,),
        lambda row: subject_name(row["collection_id"], row["name"]),
    ),
)
"""All of them; a test compares them with the tables."""


class SealedRows:
    """Sealed rows of all tables."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def count(self, kind: SealedKind) -> Counter[str]:
        """Count the sealed rows of a kind by the id of their key."""
        query = (
            select(kind.key_id, func.count()).where(kind.key_id.is_not(None)).group_by(kind.key_id)
        )
        async with self._database.read() as connection:
            return Counter({key: number for key, number in (await connection.execute(query))})

    async def reseal(
        self, kind: SealedKind, cipher: DataCipher, *, after: tuple[Any, ...] | None
    ) -> Resealed:
        """Seal a page of rows with the current key, behind a primary key; the rest stays as it is.

        Rows that somebody else is changing just then are left to the next pass.
        """
        current = cipher.current_key_id
        query = (
            select(*kind.primary_key, kind.key_id.label("key_id"), *kind.columns)
            .where(kind.key_id.is_not(None), kind.key_id != current)
            .order_by(*kind.primary_key)
            .limit(_ROWS_AT_ONCE)
            .with_for_update(skip_locked=True)
        )
        if after is not None:
            query = query.where(_behind(kind.primary_key, after))
        changed, unreadable = 0, list[str]()
        async with self._database.write(most_seconds=_SECONDS) as connection:
            rows = (await connection.execute(query)).mappings().all()
            for row in rows:
                try:
                    values = _anew(kind, cipher, dict(row))
                except ConfigurationError as error:
                    unreadable.append(str(error))
                    continue
                mine = and_(*(column == row[column.name] for column in kind.primary_key))
                await connection.execute(update(kind.table).where(mine).values(values))
                changed += 1
        last = tuple(rows[-1][column.name] for column in kind.primary_key) if rows else None
        return Resealed(len(rows), changed, tuple(unreadable), last)

    async def needs_image(self, job_id: str, index: int) -> bool:
        """Whether a job may still need one of its images: neither has ended well."""
        ended_well = select(JOB_RESULTS.c.index).where(
            JOB_RESULTS.c.job_id == job_id,
            JOB_RESULTS.c.index == index,
            JOB_RESULTS.c.status == "ok",
        )
        needing = select(JOBS.c.id).where(
            JOBS.c.id == job_id,
            or_(
                JOBS.c.state.in_(("receiving", "queued", "running", "paused")),
                and_(JOBS.c.state == "done", JOBS.c.failed > 0),
            ),
        )
        async with self._database.read() as connection:
            if (await connection.execute(needing)).first() is None:
                return False
            return (await connection.execute(ended_well)).first() is None


def _behind(columns: Sequence[Column[Any]], after: tuple[Any, ...]) -> Any:
    return columns[0] > after[0] if len(columns) == 1 else tuple_(*columns) > after


def _anew(kind: SealedKind, cipher: DataCipher, row: Row) -> dict[str, Any]:
    name = kind.name_of(row)
    if "metadata" in row:
        data = open_metadata(cipher, name, StoredMetadata(row["metadata"], row["key_id"]))
        stored = seal_metadata(cipher, name, data)
        return {"metadata": stored.value, "metadata_key_id": stored.key_id}
    opened = cipher.open(name, SealedBytes(row["key_id"], row["nonce"], row["sealed"]))
    sealed = cipher.seal(name, opened)
    return {"key_id": sealed.key_id, "nonce": sealed.nonce, "sealed": sealed.sealed}
