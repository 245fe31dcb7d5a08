"""Which faces a kept answer names, so that forgetting a face finds it.

Revision: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table. Answers from before do not say which faces they name: they are dropped."""
    op.execute("DELETE FROM idempotency")
    op.create_table(
        "answered_faces",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("face_id", sa.String(length=36), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant", "key"],
            ["idempotency.tenant", "idempotency.key"],
            name=op.f("fk_answered_faces_tenant_key"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant", "key", "face_id", name=op.f("pk_answered_faces")),
    )
    op.create_index(op.f("ix_answered_faces_face_id"), "answered_faces", ["face_id"], unique=False)
