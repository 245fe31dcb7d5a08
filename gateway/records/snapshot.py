"""Reads all rows of the database as they are at one moment, table by table, while others write.

Columns are those of the tables that exist, not of `tables.py`: a backup of an older release has its
own. JSON is text as it is stored, so that both databases write the same.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from sqlalchemy import (
    JSON,
    ColumnElement,
    Connection,
    LargeBinary,
    MetaData,
    Table,
    Text,
    cast,
    func,
    or_,
    select,
    type_coerce,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import ConfigurationError
from gateway.records.driver_errors import translated
from gateway.records.engines import engine_without_limits
from gateway.records.postgres_tls import explain
from gateway.records.revisions import newest_revision, revision_of
from gateway.records.tables import COLLECTIONS, FACES, METADATA
from gateway.tls import NO_FILES, TlsFiles

LEFT_OUT: Final = frozenset({"alembic_version", "schema_support", "job_workers", "processes"})
"""What migrations write, and what processes say about themselves."""
_ROWS_AT_ONCE: Final = 500
_LARGE_ROWS_AT_ONCE: Final = 16
"""Of tables with sealed bytes: a result of a job may have a megabyte."""
Row: TypeAlias = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class FaceIndex:
    """Faces of a collection in one embedding space."""

    collection_id: str
    tenant: str
    collection: str
    space: str


@dataclass(frozen=True, slots=True)
class FaceState:
    """Whether a face exists (`committed`), and the spaces in which it has a vector."""

    state: str
    space: str
    copied_to: str | None


class RecordSnapshot:
    """All rows as they were when the snapshot was taken."""

    def __init__(self, connection: AsyncConnection, revision: str, tables: Sequence[Table]) -> None:
        self._connection = connection
        # names of the library are a kind of text of their own
        self._tables = {str(table.name): table for table in tables}
        self.revision = revision
        """Of the tables: the number of the last migration."""

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the tables; one that refers to another comes after it."""
        return tuple(self._tables)

    def columns(self, table: str) -> tuple[str, ...]:
        """Return the names of a table's columns."""
        return tuple(str(column.name) for column in self._tables[table].columns)

    async def count(self, table: str) -> int:
        """Return the number of rows."""
        query = select(func.count()).select_from(self._tables[table])
        return (await self._connection.execute(query)).scalar_one()

    async def rows(self, table: str) -> AsyncIterator[Sequence[Row]]:
        """Read a table in the order of its primary key, some rows at a time."""
        made = self._tables[table]
        columns = [self._as_stored(column).label(column.name) for column in made.columns]
        query = select(*columns).order_by(*made.primary_key.columns)
        is_large = any(isinstance(column.type, LargeBinary) for column in made.columns)
        at_once = _LARGE_ROWS_AT_ONCE if is_large else _ROWS_AT_ONCE
        async with self._connection.stream(query) as result:
            async for part in result.partitions(at_once):
                yield [tuple(row) for row in part]

    async def indexes(self) -> tuple[FaceIndex, ...]:
        """Return every space of every collection in which a face exists, sorted."""
        found: set[FaceIndex] = set()
        for space in (FACES.c.space, FACES.c.copied_to):
            query = (
                select(COLLECTIONS.c.id, COLLECTIONS.c.tenant, COLLECTIONS.c.name, space)
                .join(FACES, FACES.c.collection_id == COLLECTIONS.c.id)
                .where(FACES.c.state == "committed", space.is_not(None))
                .distinct()
            )
            found |= {FaceIndex(*row) for row in await self._connection.execute(query)}
        return tuple(sorted(found, key=lambda each: (each.tenant, each.collection, each.space)))

    async def count_faces(self, index: FaceIndex) -> int:
        """Return the number of faces of an index."""
        query = select(func.count()).where(*_of(index))
        return (await self._connection.execute(query)).scalar_one()

    async def face_ids(self, index: FaceIndex, *, after: str, limit: int) -> Sequence[str]:
        """Return ids of acknowledged faces that have a vector in an index, in their order."""
        query = select(FACES.c.id).where(*_of(index), FACES.c.id > after)
        found = await self._connection.execute(query.order_by(FACES.c.id).limit(limit))
        return found.scalars().all()

    async def faces(self, face_ids: Sequence[str]) -> Mapping[str, FaceState]:
        """Return what the snapshot knows of faces, by id; without those that it does not have."""
        columns = (FACES.c.id, FACES.c.state, FACES.c.space, FACES.c.copied_to)
        query = select(*columns).where(FACES.c.id.in_(face_ids))
        found = await self._connection.execute(query)
        return {row.id: FaceState(row.state, row.space, row.copied_to) for row in found}

    def _as_stored(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        if not isinstance(column.type, JSON):
            return column
        is_sqlite = self._connection.dialect.name == "sqlite"
        return type_coerce(column, Text) if is_sqlite else cast(column, Text)


def _of(index: FaceIndex) -> tuple[ColumnElement[bool], ...]:
    return (
        FACES.c.collection_id == index.collection_id,
        FACES.c.state == "committed",
        or_(FACES.c.space == index.space, FACES.c.copied_to == index.space),
    )


@asynccontextmanager
async def record_snapshot(url: str, files: TlsFiles = NO_FILES) -> AsyncIterator[RecordSnapshot]:
    """Hold a snapshot until the end of the block; it keeps no one from writing.

    Raises:
        ConfigurationError: as `Database.open`; there are no tables, or they are of another release.
        StorageUnavailableError: no database answers.
    """
    engine = engine_without_limits(url, files)
    if engine.dialect.name == "postgresql":
        options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        engine = engine.execution_options(**options)
    try:
        async with engine.connect() as connection:
            revision = await connection.run_sync(revision_of)
            if revision is None:
                raise ConfigurationError("there are no records: nothing has been stored yet")
            if revision != newest_revision():
                message = (
                    f"the tables are of revision {revision}, this release has "
                    f"{newest_revision()}: use the release that the gateway runs"
                )
                raise ConfigurationError(message)
            tables = await connection.run_sync(reflect_tables)
            # a database may have tables of others
            ours = [table for table in tables if table.name in METADATA.tables]
            yield RecordSnapshot(connection, revision, ours)
    except (DBAPIError, OSError) as error:
        raise explain(error) or translated(error) from error
    finally:
        await engine.dispose()


def reflect_tables(connection: Connection) -> list[Table]:
    """Return the tables that exist; one that refers to another comes after it."""
    found = MetaData()
    found.reflect(connection)
    return [table for table in found.sorted_tables if table.name not in LEFT_OUT]
