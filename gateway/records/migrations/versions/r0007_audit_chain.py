"""The audit log is a chain that the database does not let anybody change; sealed metadata.

Revision: 0007
"""

import sqlalchemy as sa
from alembic import op

from gateway.records.audit_chain import FIRST, hash_of
from gateway.records.migrations.losses import refuse_if

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_AT_ONCE = 1000
_REFUSED = "audit lines cannot be changed or removed"
_BROKEN = "an audit line must continue the chain"

_AUDIT = sa.table(
    "audit",
    sa.column("id", sa.BigInteger),
    sa.column("at", sa.Double),
    sa.column("tenant", sa.String),
    sa.column("actor", sa.String),
    sa.column("action", sa.String),
    sa.column("collection", sa.String),
    sa.column("receipt", sa.String),
    sa.column("counts", sa.JSON),
    sa.column("request_id", sa.String),
    sa.column("outcome", sa.String),
    sa.column("expired_through", sa.BigInteger),
    sa.column("expired_hash", sa.String),
    sa.column("key_id", sa.String),
    sa.column("prev", sa.String),
    sa.column("hash", sa.String),
)


def upgrade() -> None:
    """Chain the lines that exist, then close the table."""
    is_sqlite = op.get_context().dialect.name == "sqlite"
    if not is_sqlite:
        # every search writes a line; SQLite's numbers are wide enough
        op.alter_column("audit", "id", type_=sa.BigInteger(), existing_nullable=False)
    op.add_column("audit", sa.Column("outcome", sa.String(length=64), nullable=True))
    op.add_column("audit", sa.Column("expired_through", sa.BigInteger(), nullable=True))
    op.add_column("audit", sa.Column("expired_hash", sa.String(length=64), nullable=True))
    op.add_column("audit", sa.Column("key_id", sa.String(length=16), nullable=True))
    for name in ("prev", "hash"):
        column = sa.Column(name, sa.String(length=64), nullable=False, server_default="")
        op.add_column("audit", column)
    _chain()
    there = sa.text("expired_through IS NOT NULL")
    op.create_index(
        op.f("ix_audit_expired_through"),
        "audit",
        ["expired_through"],
        sqlite_where=there,
        postgresql_where=there,
    )
    for statement in _SQLITE if is_sqlite else _POSTGRESQL:
        op.execute(statement)
    _add_key_ids()


def downgrade() -> None:
    """Open the table again and keep its lines, without hashes and outcomes.

    Raises ConfigurationError if metadata is sealed: nobody could read it.
    """
    is_sqlite = op.get_context().dialect.name == "sqlite"
    for table in ("faces", "subjects"):
        refuse_if(f"{table} WHERE metadata_key_id IS NOT NULL", "sealed metadata")
    for statement in _OPEN_SQLITE if is_sqlite else _OPEN_POSTGRESQL:
        op.execute(statement)
    for table in ("faces", "subjects"):
        op.drop_index(op.f(f"ix_{table}_metadata_key_id"), table)
        op.drop_column(table, "metadata_key_id")
    op.drop_index(op.f("ix_audit_expired_through"), "audit")
    for name in ("outcome", "expired_through", "expired_hash", "key_id", "prev", "hash"):
        op.drop_column("audit", name)
    if not is_sqlite:
        op.alter_column("audit", "id", type_=sa.Integer(), existing_nullable=False)


def _chain() -> None:
    connection = op.get_bind()
    last, previous = -1, FIRST
    while True:
        query = sa.select(_AUDIT).where(_AUDIT.c.id > last).order_by(_AUDIT.c.id).limit(_AT_ONCE)
        rows = connection.execute(query).mappings().all()
        if not rows:
            return
        changes = []
        for row in rows:
            own = hash_of({**row, "prev": previous}, None)
            changes.append({"line": row["id"], "before": previous, "own": own})
            last, previous = row["id"], own
        change = sa.update(_AUDIT).where(_AUDIT.c.id == sa.bindparam("line"))
        connection.execute(
            change.values(prev=sa.bindparam("before"), hash=sa.bindparam("own")), changes
        )


def _add_key_ids() -> None:
    """Say with which key the metadata of a face and of a subject is sealed, if it is."""
    sealed = sa.text("metadata_key_id IS NOT NULL")
    for table in ("faces", "subjects"):
        op.add_column(table, sa.Column("metadata_key_id", sa.String(length=32), nullable=True))
        op.create_index(
            op.f(f"ix_{table}_metadata_key_id"),
            table,
            ["metadata_key_id"],
            sqlite_where=sealed,
            postgresql_where=sealed,
        )


_COVERED = "EXISTS (SELECT 1 FROM audit WHERE expired_through >= OLD.id)"
"""A line that is kept says that lines up to this one have expired."""
_HEAD = "COALESCE((SELECT hash FROM audit ORDER BY id DESC LIMIT 1), NEW.prev)"
_SQLITE = (
    f"""CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit
    BEGIN SELECT RAISE(ABORT, '{_REFUSED}'); END""",
    f"""CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit WHEN NOT {_COVERED}
    BEGIN SELECT RAISE(ABORT, '{_REFUSED}'); END""",
    # also against INSERT OR REPLACE, which deletes without the trigger above
    f"""CREATE TRIGGER audit_in_order BEFORE INSERT ON audit
    WHEN NEW.prev <> {_HEAD} OR NEW.id <= (SELECT MAX(id) FROM audit)
    BEGIN SELECT RAISE(ABORT, '{_BROKEN}'); END""",
)
_POSTGRESQL = (
    f"""CREATE FUNCTION audit_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'DELETE' THEN
            IF {_COVERED} THEN
                RETURN OLD;
            END IF;
        END IF;
        RAISE EXCEPTION '{_REFUSED}' USING ERRCODE = 'integrity_constraint_violation';
    END $$""",
    f"""CREATE FUNCTION audit_in_order() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NEW.prev <> {_HEAD} OR NEW.id <= (SELECT MAX(id) FROM audit) THEN
            RAISE EXCEPTION '{_BROKEN}' USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        RETURN NEW;
    END $$""",
    """CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE ON audit
    FOR EACH ROW EXECUTE FUNCTION audit_append_only()""",
    """CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only()""",
    """CREATE TRIGGER audit_in_order BEFORE INSERT ON audit
    FOR EACH ROW EXECUTE FUNCTION audit_in_order()""",
)
_OPEN_SQLITE = tuple(
    f"DROP TRIGGER {name}" for name in ("audit_no_update", "audit_no_delete", "audit_in_order")
)
_OPEN_POSTGRESQL = (
    "DROP TRIGGER audit_append_only ON audit",
    "DROP TRIGGER audit_no_truncate ON audit",
    "DROP TRIGGER audit_in_order ON audit",
    "DROP FUNCTION audit_append_only()",
    "DROP FUNCTION audit_in_order()",
)
