"""The oldest release that can use the tables, so that releases can run side by side.

Revision: 0010
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None
oldest_code = "0010"


def upgrade() -> None:
    """Make the table; `gateway.records.migrate` fills it."""
    op.create_table(
        "schema_support",
        sa.Column("oldest_code", sa.String(length=4), nullable=False),
        sa.PrimaryKeyConstraint("oldest_code", name=op.f("pk_schema_support")),
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("schema_support")
