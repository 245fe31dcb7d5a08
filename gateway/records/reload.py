"""Replaces all rows of the database by those of a snapshot, in one transaction.

The tables are made as the release of the snapshot had them, filled, and then migrated: nobody sees
anything in between, and whatever fails leaves the database as it was.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from sqlalchemy import (
    JSON,
    Connection,
    MetaData,
    Table,
    Text,
    bindparam,
    cast,
    func,
    insert,
    inspect,
    select,
    text,
    type_coerce,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.errors import ConfigurationError
from gateway.records.engines import engine_without_limits, writing_alone
from gateway.records.migrate import upgrade
from gateway.records.revisions import knows_revision, newest_revision, revision_of
from gateway.records.snapshot import LEFT_OUT, Row, reflect_tables
from gateway.records.tables import FACES, METADATA
from gateway.tls import NO_FILES, TlsFiles

_FUNCTIONS: Final = ("audit_append_only", "audit_in_order")
"""Of PostgreSQL's triggers, which stay when their tables are dropped."""


class RecordReload:
    """The transaction that fills the tables."""

    def __init__(self, connection: AsyncConnection, tables: Sequence[Table]) -> None:
        self._connection = connection
        self._tables = {table.name: table for table in tables}
        self._left_out: list[tuple[str, str]] = []

    async def insert(self, table: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """Write rows as `RecordSnapshot.rows` reads them.

        Raises ConfigurationError for a table or a column that this revision does not have.
        """
        made = self._tables.get(table)
        if made is None or not set(columns) <= set(made.columns.keys()):
            raise ConfigurationError(f"the table {table!r} is not one of this revision")
        # a parameter may not have the name of a column
        names = {column: f"p_{number}" for number, column in enumerate(columns)}
        values = {column: self._value(made, column, name) for column, name in names.items()}
        given = [dict(zip(names.values(), row, strict=True)) for row in rows]
        if given:
            await self._connection.execute(insert(made).values(values), given)

    def _value(self, table: Table, column: str, name: str) -> Any:
        kind = table.columns[column].type
        if not isinstance(kind, JSON):
            return bindparam(name, type_=kind)
        as_text = bindparam(name, type_=Text())
        # to SQLite, a cast to JSON is one to a number
        is_sqlite = self._connection.dialect.name == "sqlite"
        return type_coerce(as_text, Text) if is_sqlite else cast(as_text, JSON)

    def leave_out(self, face_ids: Sequence[str], *, space: str) -> None:
        """Mark faces without a vector in a space as forgotten; copies only lose their mark.

        The repair that each start does removes them, with all that belongs to them.
        """
        self._left_out += [(face_id, space) for face_id in face_ids]

    async def apply_left_out(self) -> None:
        """Mark them, in tables that are up to date."""
        for face_id, space in self._left_out:
            of_face = FACES.c.id == face_id
            await self._connection.execute(
                update(FACES)
                .where(of_face, FACES.c.space == space)
                .values(state="deleting", claim=None)
            )
            await self._connection.execute(
                update(FACES).where(of_face, FACES.c.copied_to == space).values(copied_to=None)
            )


@asynccontextmanager
async def record_reload(
    url: str, revision: str, files: TlsFiles = NO_FILES
) -> AsyncIterator[RecordReload]:
    """Empty the database, and fill it within the block; its end migrates and commits.

    Raises:
        ConfigurationError: as `Database.open`, or rows that do not fit each other.
        StorageUnavailableError: no database answers.
    """
    engine = engine_without_limits(url, files)
    try:
        async with writing_alone(engine) as connection:
            await connection.run_sync(_drop)
            await connection.run_sync(upgrade, revision)
            reload = RecordReload(connection, await connection.run_sync(reflect_tables))
            yield reload
            await connection.run_sync(upgrade)
            await reload.apply_left_out()
    except IntegrityError as error:
        raise ConfigurationError(f"the rows contradict each other: {error.orig}") from None
    finally:
        await engine.dispose()


async def count_rows(url: str, files: TlsFiles = NO_FILES) -> int:
    """Return the number of all rows of ours; 0 without tables; raises as `record_reload`."""
    engine = engine_without_limits(url, files)
    try:
        async with writing_alone(engine) as connection:
            return await connection.run_sync(_count)
    finally:
        await engine.dispose()


def _count(connection: Connection) -> int:
    if revision_of(connection) is None:
        return 0
    tables = reflect_tables(connection)
    ours = [table for table in tables if table.name in METADATA.tables]
    return sum(
        connection.execute(select(func.count()).select_from(table)).scalar_one() for table in ours
    )


def _drop(connection: Connection) -> None:
    """Remove all tables of ours, also those of a newer release."""
    found = MetaData()
    names = {*METADATA.tables, *LEFT_OUT} & set(inspect(connection).get_table_names())
    revision = revision_of(connection)
    if revision is not None and not knows_revision(revision):
        message = f"the tables are of revision {revision}, this release has {newest_revision()}"
        raise ConfigurationError(message)
    found.reflect(connection, only=sorted(names))
    found.drop_all(connection)
    if connection.dialect.name == "postgresql":
        for function in _FUNCTIONS:
            connection.execute(text(f"DROP FUNCTION IF EXISTS {function}()"))
