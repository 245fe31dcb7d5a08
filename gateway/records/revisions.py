"""The revision of the tables: read, brought up to date at a start, and taken back."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, inspect, text
from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.errors import ConfigurationError
from gateway.records.engines import engine_without_limits, writing_alone
from gateway.tls import NO_FILES, TlsFiles

_MIGRATIONS: Final = Path(__file__).resolve().parent / "migrations" / "versions"
_OLDEST_BACK: Final = "0006"
"""The first tables of which migrations lead back."""


async def downgrade(url: str, revision: str, *, files: TlsFiles = NO_FILES) -> None:
    """Take the tables back to those of a migration, while no gateway or worker runs.

    Raises ConfigurationError for a revision that is not among those before, and if rows would be
    lost; otherwise as `Database.open`.
    """

    def change(connection: Connection) -> None:
        present = revision_of(connection)
        if present is None or not _OLDEST_BACK <= revision <= present:
            message = f"the tables are {present}: choose one of {_OLDEST_BACK} to {present}"
            raise ConfigurationError(message)
        from gateway.records import migrate

        migrate.downgrade(connection, revision)

    await _change_tables(engine_without_limits(url, files), change)


async def bring_up_to_date(url: str, *, files: TlsFiles = NO_FILES) -> None:
    """Make or migrate the tables; raises as `Database.open`."""
    # no limits: another process may migrate first, and a migration may take long
    await _change_tables(engine_without_limits(url, files), _upgrade)


async def _change_tables(engine: AsyncEngine, change: Callable[[Connection], None]) -> None:
    try:
        async with writing_alone(engine) as connection:
            await connection.run_sync(change)
    finally:
        await engine.dispose()


def _upgrade(connection: Connection) -> None:
    revision, newest = revision_of(connection), newest_revision()
    if revision == newest:
        return
    if revision is not None and revision > newest:
        _check_understood(connection, revision, newest)
        return
    # Alembic takes 11 MB and a fifth of a second, which most starts do not need
    from gateway.records.migrate import upgrade

    upgrade(connection)


def _check_understood(connection: Connection, revision: str, newest: str) -> None:
    """Raise ConfigurationError unless tables of a later release can be used by this one."""
    there = inspect(connection).has_table("schema_support")
    oldest = connection.scalar(text("SELECT oldest_code FROM schema_support")) if there else None
    if oldest is None or oldest > newest:
        message = (
            f"AURUM_DATABASE_URL: the tables are those of a later release ({revision}), which"
            f" this one ({newest}) cannot use; `aurum records downgrade` of that release takes"
            " them back"
        )
        raise ConfigurationError(message)


def revision_of(connection: Connection) -> str | None:
    """Read the revision of the tables; None if there are none."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


def newest_revision() -> str:
    """Find the last migration by the names of their files: `r0004_subjects.py` is 0004."""
    return max(path.name[1:5] for path in _MIGRATIONS.glob("r[0-9][0-9][0-9][0-9]_*.py"))


def knows_revision(revision: str) -> bool:
    """Whether this release has the migration that a snapshot ends with."""
    return revision.isdecimal() and any(_MIGRATIONS.glob(f"r{revision}_*.py"))
