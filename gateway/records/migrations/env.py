"""Alembic's entry: the connection comes from `Database.open`, which holds the lock."""

from alembic import context

from gateway.records.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    # SQLite can undo DDL too; a start that dies half-way leaves the version before
    transactional_ddl=True,
)
context.run_migrations()
