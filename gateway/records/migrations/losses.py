"""What a migration back must not drop."""

import sqlalchemy as sa
from alembic import op

from gateway.errors import ConfigurationError


def refuse_if(found: str, what: str) -> None:
    """Raise ConfigurationError if there is a row; `found` is a table and perhaps a condition.

    what: the rows in words, which the tables of before have no place for.
    """
    if op.get_bind().execute(sa.text(f"SELECT 1 FROM {found} LIMIT 1")).first() is not None:
        message = (
            f"the tables of before have no place for {what}: remove them first, or restore a"
            " backup of that time"
        )
        raise ConfigurationError(message)
