"""Records of what tenants use: images per day, faces, collections."""

from collections.abc import Mapping
from typing import Final

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from gateway.records.access_tables import USAGE
from gateway.records.database import Database
from gateway.records.tables import COLLECTIONS, FACES

KEPT_DAYS: Final = 90


class UsageRecords:
    """Counts by tenant."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_images(self, images: Mapping[str, int], *, day: str) -> Mapping[str, int]:
        """Add to the images of tenants on a day; returns the totals of these tenants."""
        try:
            return await self._add(images, day)
        except IntegrityError:
            # another gateway was the first of the day
            return await self._add(images, day)

    async def _add(self, images: Mapping[str, int], day: str) -> Mapping[str, int]:
        totals: dict[str, int] = {}
        async with self._database.write() as connection:
            for tenant, number in sorted(images.items()):
                mine = (USAGE.c.tenant == tenant) & (USAGE.c.day == day)
                more = update(USAGE).where(mine).values(images=USAGE.c.images + number)
                if not (await connection.execute(more)).rowcount:
                    row = {"tenant": tenant, "day": day, "images": number}
                    await connection.execute(insert(USAGE).values(row))
                query = select(USAGE.c.images).where(mine)
                totals[tenant] = (await connection.execute(query)).scalar_one()
        return totals

    async def images(self, tenant: str, *, day: str) -> int:
        """Return the number of images of a tenant on a day."""
        mine = (USAGE.c.tenant == tenant) & (USAGE.c.day == day)
        async with self._database.read() as connection:
            found = (await connection.execute(select(USAGE.c.images).where(mine))).scalar()
        return found or 0

    async def forget_before(self, day: str) -> None:
        """Delete the counts of days before this one."""
        async with self._database.write() as connection:
            await connection.execute(delete(USAGE).where(USAGE.c.day < day))

    async def collections(self, tenant: str) -> int:
        """Count the collections of a tenant."""
        mine = (COLLECTIONS.c.tenant == tenant) & (COLLECTIONS.c.state == "active")
        query = select(func.count()).select_from(COLLECTIONS).where(mine)
        async with self._database.read() as connection:
            return (await connection.execute(query)).scalar_one()

    async def faces(self, tenant: str) -> int:
        """Count the enrolled faces of a tenant, also those not yet acknowledged."""
        joined = FACES.join(COLLECTIONS, FACES.c.collection_id == COLLECTIONS.c.id)
        query = (
            select(func.count())
            .select_from(joined)
            .where(COLLECTIONS.c.tenant == tenant, FACES.c.state != "deleting")
        )
        async with self._database.read() as connection:
            return (await connection.execute(query)).scalar_one()
