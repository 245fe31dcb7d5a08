"""Limits of a single API key.

Revision: 0009
"""

import sqlalchemy as sa
from alembic import op

from gateway.records.migrations.losses import refuse_if

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("api_keys", sa.Column("limits", sa.JSON(none_as_null=True), nullable=True))


def downgrade() -> None:
    """Drop the column; raises ConfigurationError if a key has limits, which would be unlimited."""
    refuse_if("api_keys WHERE limits IS NOT NULL", "limits of single keys")
    op.drop_column("api_keys", "limits")
