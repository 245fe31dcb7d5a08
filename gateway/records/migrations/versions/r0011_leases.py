"""Processes and their leases: others may take over the unfinished work of a dead process.

Revision: 0011
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None
oldest_code = "0010"


def upgrade() -> None:
    """Make the table and add the columns; rows of older code name no process, and are kept."""
    op.create_table(
        "processes",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("lease_until", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_processes")),
    )
    op.add_column("idempotency", sa.Column("owner", sa.String(length=32), nullable=True))
    op.add_column("idempotency", sa.Column("token", sa.String(length=32), nullable=True))
    op.add_column("faces", sa.Column("owner", sa.String(length=32), nullable=True))


def downgrade() -> None:
    """Drop the columns and the table; a key that is taken is free again after its time."""
    op.drop_column("faces", "owner")
    op.drop_column("idempotency", "token")
    op.drop_column("idempotency", "owner")
    op.drop_table("processes")
