"""Records of API keys."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from sqlalchemy import and_, insert, or_, select, update
from sqlalchemy.engine import RowMapping

from gateway.errors import ConflictError, NotFoundError
from gateway.records.access_tables import API_KEYS
from gateway.records.database import Database
from gateway.types import NO_RATE_LIMITS, RateLimits

_LAST_MOMENT: Final = 253_402_300_799.0
"""The end of the year 9999: no calendar shows a later time."""


@dataclass(frozen=True, slots=True)
class ApiKeyRecord:
    """A key without its secret; see `access_tables.API_KEYS`.

    roles: names of `security.roles.Role`. collections: None for all of the tenant. limits: its own
    ones, instead of the defaults of the gateway.
    """

    id: str
    tenant: str
    name: str
    roles: tuple[str, ...]
    collections: tuple[str, ...] | None
    pepper_id: str
    digest: str = field(repr=False)
    created_at: float
    created_by: str
    expires_at: float | None = None
    revoked_at: float | None = None
    last_used_at: float | None = None
    replaces: str | None = None
    limits: RateLimits = NO_RATE_LIMITS

    def is_valid(self, *, at: float) -> bool:
        """Whether the key is neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or at < self.expires_at)

    @property
    def has_broken_expiry(self) -> bool:
        """Whether its expiry is no time (NaN, which older releases took): it is never valid."""
        return self.expires_at is not None and math.isnan(self.expires_at)

    @property
    def shown_expiry(self) -> float | None:
        """When it expires, as a calendar can show it; None for never.

        A key whose expiry is no time, or lies before its creation, expired when it was created.
        """
        if self.expires_at is None:
            return None
        if not self.expires_at > self.created_at:
            return self.created_at
        return min(self.expires_at, _LAST_MOMENT)


class ApiKeyRecords:
    """Keys by id."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, record: ApiKeyRecord) -> None:
        """Write a new key."""
        async with self._database.write() as connection:
            await connection.execute(insert(API_KEYS).values(_row(record)))

    async def get(self, key_id: str) -> ApiKeyRecord | None:
        """Return a key of any tenant, in any state."""
        query = select(API_KEYS).where(API_KEYS.c.id == key_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).mappings().first()
        return None if row is None else _record(row)

    async def page(
        self, *, tenant: str | None, limit: int, after: tuple[float, str] | None = None
    ) -> tuple[ApiKeyRecord, ...]:
        """Return keys, oldest first, behind a position of `created_at` and id.

        tenant: None for all tenants.
        """
        query = select(API_KEYS).order_by(API_KEYS.c.created_at, API_KEYS.c.id).limit(limit)
        if tenant is not None:
            query = query.where(API_KEYS.c.tenant == tenant)
        if after is not None:
            at, key_id = after
            later = API_KEYS.c.created_at > at
            same = and_(API_KEYS.c.created_at == at, API_KEYS.c.id > key_id)
            query = query.where(or_(later, same))
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return tuple(_record(row) for row in rows)

    async def rotate(
        self, successor: ApiKeyRecord, *, until: float, tenant: str | None, at: float
    ) -> ApiKeyRecord:
        """Write the successor of the key that it `replaces`, which expires at `until` or before.

        Returns the old key as it is now. Raises NotFoundError if the tenant has no such key,
        ConflictError if it is revoked, expired or replaced already.
        """
        async with self._database.write() as connection:
            query = select(API_KEYS).where(API_KEYS.c.id == successor.replaces).with_for_update()
            row = (await connection.execute(query)).mappings().first()
            old = _of_tenant(row, tenant, successor.replaces)
            if not old.is_valid(at=at):
                raise ConflictError(f"key {old.id} is revoked or expired: create a new one")
            again = select(API_KEYS.c.id).where(API_KEYS.c.replaces == old.id)
            later = (await connection.execute(again)).scalar()
            if later is not None:
                raise ConflictError(f"key {old.id} was replaced by {later}: rotate that one")
            ends = until if old.expires_at is None else min(old.expires_at, until)
            await connection.execute(insert(API_KEYS).values(_row(successor)))
            mine = API_KEYS.c.id == old.id
            await connection.execute(update(API_KEYS).where(mine).values(expires_at=ends))
        return replace(old, expires_at=ends)

    async def revoke(self, key_id: str, *, tenant: str | None, at: float) -> ApiKeyRecord:
        """End a key now, and return it; one that was revoked before keeps its time.

        Raises NotFoundError if the tenant has no such key.
        """
        async with self._database.write() as connection:
            query = select(API_KEYS).where(API_KEYS.c.id == key_id).with_for_update()
            row = (await connection.execute(query)).mappings().first()
            old = _of_tenant(row, tenant, key_id)
            if old.revoked_at is not None:
                return old
            mine = API_KEYS.c.id == key_id
            await connection.execute(update(API_KEYS).where(mine).values(revoked_at=at))
        return replace(old, revoked_at=at)

    async def change_limits(
        self,
        key_id: str,
        change: Callable[[RateLimits], RateLimits],
        *,
        tenant: str | None,
        at: float,
    ) -> ApiKeyRecord:
        """Give a key the limits that `change` makes of its own ones; returns it as it is now.

        Raises NotFoundError if the tenant has no such key, ConflictError if it is revoked or
        expired, and what `change` raises.
        """
        async with self._database.write() as connection:
            query = select(API_KEYS).where(API_KEYS.c.id == key_id).with_for_update()
            row = (await connection.execute(query)).mappings().first()
            old = _of_tenant(row, tenant, key_id)
            if not old.is_valid(at=at):
                raise ConflictError(f"key {old.id} is revoked or expired: create a new one")
            new = replace(old, limits=change(old.limits))
            mine = update(API_KEYS).where(API_KEYS.c.id == key_id)
            await connection.execute(mine.values(limits=_row(new)["limits"]))
        return new

    async def note_used(self, times: Mapping[str, float]) -> None:
        """Note when keys were last used; an older time than the one noted changes nothing."""
        used = API_KEYS.c.last_used_at
        async with self._database.write() as connection:
            for key_id, at in sorted(times.items()):
                older = or_(used.is_(None), used < at)
                query = update(API_KEYS).where(API_KEYS.c.id == key_id, older)
                await connection.execute(query.values(last_used_at=at))


def _of_tenant(row: RowMapping | None, tenant: str | None, key_id: str | None) -> ApiKeyRecord:
    if row is None or tenant not in (None, row["tenant"]):
        raise NotFoundError(f"there is no key {key_id!r:.40}")
    return _record(row)


def _row(record: ApiKeyRecord) -> dict[str, Any]:
    row = {name: getattr(record, name) for name in record.__slots__}
    row["roles"] = list(record.roles)
    row["collections"] = None if record.collections is None else list(record.collections)
    limits = {name: value for name, value in asdict(record.limits).items() if value is not None}
    row["limits"] = limits or None
    return row


def _record(row: RowMapping) -> ApiKeyRecord:
    collections = row["collections"]
    return ApiKeyRecord(
        **{
            **row,
            "roles": tuple(row["roles"]),
            "collections": None if collections is None else tuple(collections),
            "limits": RateLimits(**(row["limits"] or {})),
        }
    )
