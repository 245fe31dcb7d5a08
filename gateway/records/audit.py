"""The audit log."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import func, insert, select

from gateway.records.database import Database
from gateway.records.tables import AUDIT
from gateway.records.types import AuditLine

_MOST_NUMBER: Final = (1 << 31) - 1
"""That a column of numbers holds; a cursor may claim more."""
_MOST_CHARACTERS: Final = 64
"""Of a column; callers choose the ids of their requests."""


class AuditRecords:
    """Audit lines of all tenants: who did what to how many faces."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, line: AuditLine) -> None:
        """Write a line."""
        row = {
            "at": line.at,
            "tenant": line.tenant,
            "actor": line.actor[:_MOST_CHARACTERS],
            "action": line.action,
            "collection": line.collection,
            "receipt": line.receipt,
            "counts": dict(line.counts),
            "request_id": line.request_id and line.request_id[:_MOST_CHARACTERS],
        }
        async with self._database.write() as connection:
            await connection.execute(insert(AUDIT).values(row))

    async def latest(self, *, tenant: str, limit: int) -> Sequence[AuditLine]:
        """Return the newest lines of a tenant, newest first."""
        return [line for _, line in await self.page(tenant=tenant, limit=limit, before=None)]

    async def page(
        self, *, tenant: str, limit: int, before: int | None
    ) -> Sequence[tuple[int, AuditLine]]:
        """Return numbers and lines of a tenant, newest first, older than the number `before`."""
        query = (
            select(AUDIT).where(AUDIT.c.tenant == tenant).order_by(AUDIT.c.id.desc()).limit(limit)
        )
        if before is not None:
            query = query.where(AUDIT.c.id < min(max(before, 0), _MOST_NUMBER))
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [
            (row["id"], AuditLine(**{k: v for k, v in row.items() if k != "id"})) for row in rows
        ]

    async def count(self) -> int:
        """Return the number of lines."""
        async with self._database.read() as connection:
            return (await connection.execute(select(func.count()).select_from(AUDIT))).scalar_one()
