"""Records of collections."""

from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import and_, delete, insert, select, update
from sqlalchemy.engine import RowMapping
from sqlalchemy.exc import IntegrityError

from gateway.errors import ConflictError
from gateway.records.database import Database
from gateway.records.tables import COLLECTIONS
from gateway.records.types import CollectionRecord, CollectionSettings, Migration


class CollectionRecords:
    """Collections by tenant and name."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, record: CollectionRecord) -> None:
        """Write a new collection; raises ConflictError if its name is taken."""
        row = {
            "id": record.id,
            "tenant": record.tenant,
            "name": record.name,
            "state": record.state,
            "settings": asdict(record.settings),
            "space": record.space,
            "dimension": record.dimension,
            "migration": None,
            "refusals": record.refusals,
            "created_at": record.created_at,
            "updated_at": record.updated_at,
        }
        try:
            async with self._database.write() as connection:
                await connection.execute(insert(COLLECTIONS).values(row))
        except IntegrityError as error:
            message = f"a collection named {record.name} exists"
            raise ConflictError(message) from error

    async def find(self, *, tenant: str, name: str) -> CollectionRecord | None:
        """Return a collection in any state."""
        query = select(COLLECTIONS).where(
            and_(COLLECTIONS.c.tenant == tenant, COLLECTIONS.c.name == name)
        )
        async with self._database.read() as connection:
            row = (await connection.execute(query)).mappings().first()
        return None if row is None else _record(row)

    async def get(self, collection_id: str) -> CollectionRecord | None:
        """Return a collection by id, in any state."""
        query = select(COLLECTIONS).where(COLLECTIONS.c.id == collection_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).mappings().first()
        return None if row is None else _record(row)

    async def page(
        self, *, tenant: str, limit: int, after: str | None, names: Collection[str] | None = None
    ) -> tuple[CollectionRecord, ...]:
        """Return active collections of a tenant by name, behind the name `after`.

        names: return these only; None for all.
        """
        query = (
            select(COLLECTIONS)
            .where(COLLECTIONS.c.tenant == tenant, COLLECTIONS.c.state == "active")
            .order_by(COLLECTIONS.c.name)
            .limit(limit)
        )
        if after is not None:
            query = query.where(COLLECTIONS.c.name > after)
        if names is not None:
            query = query.where(COLLECTIONS.c.name.in_(sorted(names)))
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return tuple(_record(row) for row in rows)

    async def all(self) -> tuple[CollectionRecord, ...]:
        """Return every collection of every tenant."""
        async with self._database.read() as connection:
            rows = (await connection.execute(select(COLLECTIONS))).mappings().all()
        return tuple(_record(row) for row in rows)

    async def change_settings(
        self, collection_id: str, settings: CollectionSettings, *, at: float
    ) -> None:
        """Replace the settings."""
        await self._update(collection_id, {"settings": asdict(settings), "updated_at": at})

    async def set_space(self, collection_id: str, *, space: str, dimension: int) -> None:
        """Bind a collection to the space of its first face; one that has a space keeps it."""
        query = (
            update(COLLECTIONS)
            .where(COLLECTIONS.c.id == collection_id, COLLECTIONS.c.space.is_(None))
            .values(space=space, dimension=dimension)
        )
        async with self._database.write() as connection:
            await connection.execute(query)

    async def switch_space(
        self, collection_id: str, *, space: str, dimension: int, migration: Migration | None
    ) -> None:
        """Switch searches to another space and write the state of the migration, atomically."""
        await self._update(
            collection_id,
            {
                "space": space,
                "dimension": dimension,
                "migration": None if migration is None else asdict(migration),
            },
        )

    async def set_migration(self, collection_id: str, migration: Migration | None) -> None:
        """Write the state of a migration; None removes it."""
        value = None if migration is None else asdict(migration)
        await self._update(collection_id, {"migration": value})

    async def mark_deleting(self, collection_id: str) -> None:
        """Hide the collection from users, from now on."""
        await self._update(collection_id, {"state": "deleting"})

    async def remove(self, collection_id: str) -> None:
        """Remove the record and all that refers to it."""
        async with self._database.write() as connection:
            await connection.execute(delete(COLLECTIONS).where(COLLECTIONS.c.id == collection_id))

    async def spaces(self) -> Sequence[str]:
        """Return the spaces that collections use."""
        spaces: set[str] = set()
        for record in await self.all():
            if record.space is not None:
                spaces.add(record.space)
            if record.migration is not None:
                spaces |= {record.migration.source, record.migration.target}
        return sorted(spaces)

    async def _update(self, collection_id: str, values: dict[str, Any]) -> None:
        query = update(COLLECTIONS).where(COLLECTIONS.c.id == collection_id).values(values)
        async with self._database.write() as connection:
            await connection.execute(query)


def _record(row: RowMapping) -> CollectionRecord:
    migration = row["migration"]
    return CollectionRecord(
        id=row["id"],
        tenant=row["tenant"],
        name=row["name"],
        state=row["state"],
        settings=CollectionSettings(**row["settings"]),
        space=row["space"],
        dimension=row["dimension"],
        migration=None if migration is None else Migration(**migration),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        refusals=row["refusals"],
    )
