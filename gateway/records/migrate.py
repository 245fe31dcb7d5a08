"""Brings the tables up to date or back, with Alembic; imported where that is needed."""

import logging
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, delete, insert, inspect

from gateway.records.tables import SCHEMA_SUPPORT

log = logging.getLogger(__name__)
_MIGRATIONS: Final = Path(__file__).resolve().parent / "migrations"


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Run the migrations that the database lacks up to one, in the connection's transaction."""
    config = _config(connection)
    before = MigrationContext.configure(connection).get_current_revision()
    command.upgrade(config, revision)
    oldest = _note_oldest(connection, config, revision)
    if before is not None and oldest > before:
        log.warning(
            "the tables were migrated: gateways and workers of earlier releases must be stopped",
            extra={"from_tables": before, "oldest_that_works": oldest},
        )


def downgrade(connection: Connection, revision: str) -> None:
    """Undo all migrations after `revision`, in the connection's transaction.

    Raises ConfigurationError if there are rows that would be lost, and alembic's CommandError for
    a revision that does not exist, is newer than the tables, or is older than 0006.
    """
    config = _config(connection)
    command.downgrade(config, revision)
    _note_oldest(connection, config, revision)


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _note_oldest(connection: Connection, config: Config, revision: str) -> str:
    """Write down which code can use the tables: what the strictest of their migrations says.

    Returns it; empty where the tables are from before that was written down.
    """
    if not inspect(connection).has_table(SCHEMA_SUPPORT.name):
        return ""
    scripts = ScriptDirectory.from_config(config).walk_revisions("base", revision)
    oldest = max(getattr(script.module, "oldest_code", "") for script in scripts)
    connection.execute(delete(SCHEMA_SUPPORT))
    connection.execute(insert(SCHEMA_SUPPORT).values(oldest_code=oldest))
    return str(oldest)
