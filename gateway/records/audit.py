"""The audit log."""

from collections.abc import Sequence

from sqlalchemy import func, insert, select

from gateway.records.database import Database
from gateway.records.tables import AUDIT
from gateway.records.types import AuditLine


class AuditRecords:
    """Audit lines of all tenants: who did what to how many faces."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, line: AuditLine) -> None:
        """Write a line."""
        row = {
            "at": line.at,
            "tenant": line.tenant,
            "actor": line.actor,
            "action": line.action,
            "collection": line.collection,
            "receipt": line.receipt,
            "counts": dict(line.counts),
            "request_id": line.request_id,
        }
        async with self._database.write() as connection:
            await connection.execute(insert(AUDIT).values(row))

    async def latest(self, *, tenant: str, limit: int) -> Sequence[AuditLine]:
        """Return the newest lines of a tenant, newest first."""
        query = (
            select(AUDIT).where(AUDIT.c.tenant == tenant).order_by(AUDIT.c.id.desc()).limit(limit)
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [AuditLine(**{k: v for k, v in row.items() if k != "id"}) for row in rows]

    async def count(self) -> int:
        """Return the number of lines."""
        async with self._database.read() as connection:
            return (await connection.execute(select(func.count()).select_from(AUDIT))).scalar_one()
