"""A subject is a record of its own: display name, external id, metadata.

Revision: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_FACES = sa.table(
    "faces",
    sa.column("collection_id", sa.String),
    sa.column("subject", sa.String),
    sa.column("state", sa.String),
    sa.column("created_at", sa.Double),
)


def upgrade() -> None:
    """Make the table, with a record for the subject of every face."""
    subjects = op.create_table(
        "subjects",
        sa.Column("collection_id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("display_name", sa.String(length=200), nullable=True),
        sa.Column("external_id", sa.String(length=128), nullable=True),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.Column("kept", sa.Boolean(), nullable=False),
        sa.Column("search_text", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["collection_id"],
            ["collections.id"],
            name=op.f("fk_subjects_collection_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("collection_id", "name", name=op.f("pk_subjects")),
    )
    first = sa.func.min(_FACES.c.created_at)
    # names were ASCII until now: their search text is what `lower` makes of them
    found = (
        sa.select(
            _FACES.c.collection_id,
            _FACES.c.subject,
            sa.literal({}, sa.JSON()),
            sa.false(),
            sa.func.lower(_FACES.c.subject),
            first,
            first,
        )
        .where(_FACES.c.state != "deleting")
        .group_by(_FACES.c.collection_id, _FACES.c.subject)
    )
    columns = ["collection_id", "name", "metadata", "kept", "search_text"]
    op.execute(subjects.insert().from_select([*columns, "created_at", "updated_at"], found))
