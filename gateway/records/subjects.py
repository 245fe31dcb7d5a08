"""The records of subjects: the people that the faces of a collection show.

A record is made with the first face of a subject. It goes with the last one, unless somebody wrote
something into it: then it stays until the subject is forgotten or the time of its last face is
over.
"""

import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, delete, exists, func, not_, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.records import clock
from gateway.records.consents import consent_of, consent_row, date_faces
from gateway.records.database import Database
from gateway.records.metadata_seal import (
    MetadataSeal,
    StoredMetadata,
    otherwise_sealed,
    subject_name,
)
from gateway.records.tables import FACES, SUBJECTS
from gateway.records.types import Consent, FaceRecord, MetadataValue, SubjectRecord

_AT_ONCE: Final = 200
_BLANK: Mapping[str, Any] = {
    "display_name": None,
    "external_id": None,
    "metadata": {},
    "metadata_key_id": None,
    "kept": False,
    "purpose": None,
    **consent_row(None),
}


class SubjectRecords:
    """Subjects by collection and name; one without an existing face must be marked as kept."""

    def __init__(self, database: Database, seal: MetadataSeal | None = None) -> None:
        """Keep subjects in a database. seal: of their metadata."""
        self._database = database
        self._seal = seal or MetadataSeal()

    async def get(self, collection_id: str, name: str, *, at: float) -> SubjectRecord | None:
        """Return a subject at a time (seconds since 1970)."""
        query = _shown(collection_id, at).where(SUBJECTS.c.name == name)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).mappings().first()
        return None if row is None else self._record(row)

    async def page(
        self,
        collection_id: str,
        *,
        at: float,
        limit: int,
        after: str | None = None,
        text: str = "",
    ) -> tuple[SubjectRecord, ...]:
        """Return subjects by name, behind the name `after`.

        text: words that must all be in the name, display name or external id; case and accents
        do not count.
        """
        query = _shown(collection_id, at).order_by(SUBJECTS.c.name).limit(limit)
        if after is not None:
            query = query.where(SUBJECTS.c.name > after)
        for word in fold(text).split():
            query = query.where(SUBJECTS.c.search_text.contains(word, autoescape=True))
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return tuple(self._record(row) for row in rows)

    async def change(
        self,
        collection_id: str,
        name: str,
        changes: Mapping[str, str | Mapping[str, MetadataValue] | Consent | None],
        *,
        at: float,
    ) -> SubjectRecord | None:
        """Replace some of the fields that clients write; None if there is no such subject.

        A changed `consent` changes when the faces of the subject expire.
        """
        written = dict(changes)
        if "consent" in changes:
            consent = written.pop("consent")
            written |= consent_row(consent if isinstance(consent, Consent) else None)
        query = _shown(collection_id, at).where(SUBJECTS.c.name == name)
        async with self._database.write() as connection:
            await _lock(connection, collection_id, [name])
            row = (await connection.execute(query)).mappings().first()
            if row is None:
                return None
            values = {**{field: row[field] for field in _BLANK}, **written, "updated_at": at}
            kept_metadata = bool(row["metadata"])
            if isinstance(changed := changes.get("metadata"), Mapping):
                stored = self._seal.write(subject_name(collection_id, name), changed)
                values |= {"metadata": stored.value, "metadata_key_id": stored.key_id}
                kept_metadata = bool(changed)
            texts = [values[field] for field in ("display_name", "external_id")]
            values["kept"] = any((*texts, kept_metadata))
            values["search_text"] = _search_text(name, *texts)
            await connection.execute(
                update(SUBJECTS).where(_named(collection_id, [name])).values(values)
            )
            if "consent" in changes:
                ends_at = values["consent_ends_at"]
                await date_faces(connection, collection_id, [name], ends_at=ends_at, at=at)
        ended = "consent" in changes and (values["consent_ends_at"] or at + 1) <= at
        return self._record({**row, **values, "faces": 0 if ended else row["faces"]})

    async def drop_over(self, at: float) -> int:
        """Remove records without faces whose consent has ended; returns how many there were."""
        over = and_(SUBJECTS.c.consent_ends_at <= at, not_(exists(_faces())))
        async with self._database.write() as connection:
            return (await connection.execute(delete(SUBJECTS).where(over))).rowcount

    async def wipe(self, collection_id: str, name: str) -> None:
        """Clear the fields of a record; remove a record without faces."""
        values = {**_BLANK, "search_text": fold(name)}
        async with self._database.write() as connection:
            await _lock(connection, collection_id, [name])
            await connection.execute(
                update(SUBJECTS).where(_named(collection_id, [name])).values(values)
            )
            await connection.execute(
                delete(SUBJECTS).where(_named(collection_id, [name]), not_(exists(_faces())))
            )

    async def seal_again(self) -> int:
        """Write metadata as it should be, sealed or not; returns of how many subjects."""
        other = otherwise_sealed(SUBJECTS, is_on=self._seal.is_on)
        query = select(SUBJECTS.c.collection_id, SUBJECTS.c.name).where(other).limit(_AT_ONCE)
        changed = 0
        while True:
            async with self._database.write() as connection:
                keys = (await connection.execute(query)).all()
                for collection_id, name in keys:
                    await self._seal_again(connection, collection_id, name)
            changed += len(keys)
            if len(keys) < _AT_ONCE:
                return changed

    async def _seal_again(self, connection: AsyncConnection, collection_id: str, name: str) -> None:
        await _lock(connection, collection_id, [name])
        mine = _named(collection_id, [name])
        columns = (SUBJECTS.c.metadata, SUBJECTS.c.metadata_key_id)
        row = (await connection.execute(select(*columns).where(mine))).first()
        if row is None:
            return
        bound = subject_name(collection_id, name)
        metadata = self._seal.read(bound, StoredMetadata(row.metadata, row.metadata_key_id))
        stored = self._seal.write(bound, metadata)
        values = {"metadata": stored.value, "metadata_key_id": stored.key_id}
        await connection.execute(update(SUBJECTS).where(mine).values(values))

    def _record(self, row: RowMapping | Mapping[str, Any]) -> SubjectRecord:
        columns = ("name", "display_name", "external_id", "created_at", "updated_at", "faces")
        stored = StoredMetadata(row["metadata"], row["metadata_key_id"])
        name = subject_name(row["collection_id"], row["name"])
        return SubjectRecord(
            **{column: row[column] for column in columns},
            metadata=self._seal.read(name, stored),
            consent=consent_of(row),
            purpose=row["purpose"],
        )


async def make_records(connection: AsyncConnection, faces: Sequence[FaceRecord]) -> None:
    """Create the records that new faces of a collection need, and lock them.

    What was written about a subject while its faces lived, and their time is over, is dropped.
    """
    collection_id, at = faces[0].collection_id, faces[0].created_at
    names = sorted({face.subject for face in faces})
    rows = [
        {
            **_BLANK,
            "collection_id": collection_id,
            "name": name,
            "search_text": fold(name),
            "created_at": at,
            "updated_at": at,
        }
        for name in names
    ]
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(SUBJECTS)
    # an update without a change locks an existing row, which "do nothing" would not
    taken = statement.on_conflict_do_update(
        index_elements=[SUBJECTS.c.collection_id, SUBJECTS.c.name],
        set_={"name": statement.excluded.name},
    )
    await connection.execute(taken, rows)
    now = clock.now()
    over = and_(exists(_faces().where(_over(now))), not_(exists(_faces().where(living(now)))))
    query = select(SUBJECTS.c.name).where(_named(collection_id, names), over)
    gone = set((await connection.execute(query)).scalars())
    for row in rows:
        if row["name"] in gone:
            mine = _named(collection_id, [row["name"]])
            await connection.execute(update(SUBJECTS).where(mine).values(row))


async def lock_records(connection: AsyncConnection, subjects: Iterable[tuple[str, str]]) -> None:
    """Lock records, (collection id, name), against creation and removal."""
    for collection_id, names in _by_collection(subjects).items():
        await _lock(connection, collection_id, names)


async def drop_records(
    connection: AsyncConnection, subjects: Iterable[tuple[str, str]], *, kept: bool
) -> None:
    """Remove the records among these that have no face; `kept` includes kept ones."""
    for collection_id, names in _by_collection(subjects).items():
        query = delete(SUBJECTS).where(_named(collection_id, names), not_(exists(_faces())))
        await connection.execute(query if kept else query.where(not_(SUBJECTS.c.kept)))


def living(at: float) -> ColumnElement[bool]:
    """Select faces that exist at a time (seconds since 1970): acknowledged and not expired."""
    return and_(
        FACES.c.state == "committed", or_(FACES.c.expires_at.is_(None), FACES.c.expires_at > at)
    )


def faceless(collection_id: str, at: float) -> ColumnElement[bool]:
    """Select subjects of a collection that exist without a face."""
    return and_(
        SUBJECTS.c.collection_id == collection_id,
        SUBJECTS.c.kept,
        not_(exists(_faces().where(or_(living(at), _over(at))))),
    )


def fold(text: str) -> str:
    """Fold case and accents of a text for searching."""
    parts = unicodedata.normalize("NFKD", text.casefold())
    return "".join(part for part in parts if not unicodedata.combining(part)).casefold()


def _over(at: float) -> ColumnElement[bool]:
    return FACES.c.expires_at <= at


def _faces() -> Any:
    """Select the faces of the subject of an outer query, in any state."""
    return (
        select(FACES.c.id)
        .where(
            FACES.c.collection_id == SUBJECTS.c.collection_id, FACES.c.subject == SUBJECTS.c.name
        )
        .correlate(SUBJECTS)
    )


def _shown(collection_id: str, at: float) -> Any:
    number = (
        select(func.count())
        .select_from(FACES)
        .where(
            FACES.c.collection_id == SUBJECTS.c.collection_id,
            FACES.c.subject == SUBJECTS.c.name,
            living(at),
        )
        .correlate(SUBJECTS)
        .scalar_subquery()
    )
    exist = or_(exists(_faces().where(living(at))), faceless(collection_id, at))
    return select(SUBJECTS, number.label("faces")).where(
        SUBJECTS.c.collection_id == collection_id, exist
    )


async def _lock(connection: AsyncConnection, collection_id: str, names: Collection[str]) -> None:
    # in one order, so that no two transactions deadlock; SQLite has one writer anyway
    query = select(SUBJECTS.c.name).where(_named(collection_id, names)).order_by(SUBJECTS.c.name)
    await connection.execute(query.with_for_update())


def _named(collection_id: str, names: Collection[str]) -> ColumnElement[bool]:
    return and_(SUBJECTS.c.collection_id == collection_id, SUBJECTS.c.name.in_(names))


def _by_collection(subjects: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for collection_id, name in sorted(set(subjects)):
        groups.setdefault(collection_id, []).append(name)
    return groups


def _search_text(name: str, display_name: str | None, external_id: str | None) -> str:
    return "\n".join(fold(text) for text in (name, display_name, external_id) if text)
