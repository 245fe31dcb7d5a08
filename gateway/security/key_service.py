"""Makes, lists, changes, rotates and revokes API keys, for the commands and the admin routes."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Final

from gateway.errors import InvalidRequestError
from gateway.records import clock
from gateway.records.audit import AuditRecords
from gateway.records.erasure_register import NOTHING_REGISTERED, ErasureRegister, Mark
from gateway.records.keys import ApiKeyRecord, ApiKeyRecords
from gateway.records.types import AuditLine
from gateway.security.api_keys import ApiKey
from gateway.security.peppers import Peppers
from gateway.security.roles import Role
from gateway.types import NO_RATE_LIMITS, RateLimits

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Of tenants and collections."""
_LABEL: Final = re.compile(r"[ -~]{1,100}")
MAX_COLLECTIONS: Final = 100
MAX_DAYS: Final = 36_500
MAX_OVERLAP_SECONDS: Final = 90 * 86_400
DAY_SECONDS: Final = 86_400
MOST_LIMITS: Final[Mapping[str, int]] = {
    "requests_per_minute": 1_000_000,
    "burst": 1_000_000,
    "megapixels_per_minute": 1_000_000,
    "concurrent": 100_000,
}
"""Largest limits; one that is never reached is in effect none."""


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """What a new key shall be.

    collections: None for all of the tenant. expires_in_seconds: None for never. limits: its own
    ones, instead of the defaults of the gateway.
    """

    tenant: str
    name: str
    roles: Sequence[str]
    collections: Sequence[str] | None = None
    expires_in_seconds: float | None = None
    limits: RateLimits = NO_RATE_LIMITS

    def check(self) -> None:
        """Raise InvalidRequestError that names what is wrong."""
        if not NAME.fullmatch(self.tenant):
            raise InvalidRequestError(f"tenant {self.tenant[:80]!r} must match {NAME.pattern}")
        if not _LABEL.fullmatch(self.name):
            raise InvalidRequestError("a key's name has 1 to 100 printable ASCII characters")
        unknown = sorted(set(self.roles) - set(Role))
        if unknown or not self.roles:
            known = ", ".join(Role)
            what = f"unknown role {unknown[0][:40]!r}" if unknown else "a key needs a role"
            raise InvalidRequestError(f"{what}; known: {known}")
        self._check_collections()
        seconds = self.expires_in_seconds
        # NaN is within no bounds: with it, a key would never expire, and no list could be shown
        if seconds is not None and not 0 < seconds <= MAX_DAYS * DAY_SECONDS:
            raise InvalidRequestError(f"a key must expire in the future, within {MAX_DAYS:,} days")
        check_limits(self.limits)

    def _check_collections(self) -> None:
        if self.collections is None:
            return
        if not 0 < len(self.collections) <= MAX_COLLECTIONS:
            message = f"a key is limited to 1 to {MAX_COLLECTIONS} collections, or to none"
            raise InvalidRequestError(message)
        for each in self.collections:
            if not NAME.fullmatch(each):
                raise InvalidRequestError(f"collection {each[:80]!r} must match {NAME.pattern}")
        if Role.ADMIN in self.roles:
            message = "a key with the role admin cannot be limited to collections"
            raise InvalidRequestError(message)


def check_limits(limits: RateLimits) -> None:
    """Raise InvalidRequestError that names what is wrong."""
    for name, most in MOST_LIMITS.items():
        value = getattr(limits, name)
        if value is not None and not 1 <= value <= most:
            raise InvalidRequestError(f"{name} of a key must be 1 to {most:,}")
    if limits.burst is not None and limits.requests_per_minute is None:
        raise InvalidRequestError("the burst of a key needs its requests_per_minute")


@dataclass(frozen=True, slots=True)
class NewKey:
    """A new key, whose text is shown this once, and its record."""

    key: ApiKey
    record: ApiKeyRecord


@dataclass(frozen=True, slots=True)
class Rotation:
    """A new key, and the one that it replaces as it is now."""

    new: NewKey
    old: ApiKeyRecord


class KeyService:
    """All that is done with keys. tenant None: of any tenant, for the operator of the machine."""

    def __init__(
        self,
        keys: ApiKeyRecords,
        audit: AuditRecords,
        peppers: Peppers,
        register: ErasureRegister = NOTHING_REGISTERED,
    ) -> None:
        """Manage keys. register: of revocations, so that no backup brings a key back."""
        self._keys = keys
        self._audit = audit
        self._peppers = peppers
        self._register = register

    async def create(
        self, request: KeyRequest, *, by: str, request_id: str | None = None
    ) -> NewKey:
        """Make a key; raises InvalidRequestError."""
        request.check()
        now = clock.now()
        ends = request.expires_in_seconds
        made = self._make(
            ApiKeyRecord(
                id="",
                tenant=request.tenant,
                name=request.name,
                roles=tuple(sorted(set(request.roles))),
                collections=(
                    None if request.collections is None else tuple(sorted(set(request.collections)))
                ),
                pepper_id="",
                digest="",
                created_at=now,
                created_by=by[:64],
                expires_at=None if ends is None else now + ends,
                limits=request.limits,
            )
        )
        await self._keys.add(made.record)
        await self._note("create_key", made.record, by, request_id)
        return made

    async def page(
        self, *, tenant: str | None, limit: int, after: tuple[float, str] | None = None
    ) -> tuple[ApiKeyRecord, ...]:
        """Return keys, oldest first."""
        return await self._keys.page(tenant=tenant, limit=limit, after=after)

    async def rotate(
        self,
        key_id: str,
        *,
        overlap_seconds: float,
        tenant: str | None,
        by: str,
        request_id: str | None = None,
    ) -> Rotation:
        """Make a key like another one, which stays valid for `overlap_seconds`.

        Raises NotFoundError, ConflictError if the key is revoked or expired, InvalidRequestError.
        """
        if not 0 <= overlap_seconds <= MAX_OVERLAP_SECONDS:
            days = MAX_OVERLAP_SECONDS // DAY_SECONDS
            raise InvalidRequestError(f"both keys are valid for 0 seconds to {days} days")
        now = clock.now()
        old = await self._keys.get(key_id)
        template = old or _NOBODY
        new = self._make(
            replace(
                template,
                created_at=now,
                created_by=by[:64],
                revoked_at=None,
                last_used_at=None,
                # a key that expires is replaced by one that is valid as long as it was
                expires_at=(
                    None
                    if template.expires_at is None
                    else now + template.expires_at - template.created_at
                ),
                replaces=key_id,
            )
        )
        ended = await self._keys.rotate(
            new.record, until=now + overlap_seconds, tenant=tenant, at=now
        )
        await self._note("rotate_key", new.record, by, request_id)
        return Rotation(new, ended)

    async def change_limits(
        self,
        key_id: str,
        changes: Mapping[str, int | None],
        *,
        tenant: str | None,
        by: str,
        request_id: str | None = None,
    ) -> ApiKeyRecord:
        """Change limits of a key by name, None to the gateway's default; others stay.

        Raises NotFoundError, ConflictError if the key is revoked or expired, InvalidRequestError.
        """

        def changed(limits: RateLimits) -> RateLimits:
            new = RateLimits(**(asdict(limits) | dict(changes)))
            check_limits(new)
            return new

        record = await self._keys.change_limits(key_id, changed, tenant=tenant, at=clock.now())
        limits = {name: value for name, value in asdict(record.limits).items() if value is not None}
        await self._note("change_key", record, by, request_id, counts=limits)
        return record

    async def revoke(
        self, key_id: str, *, tenant: str | None, by: str, request_id: str | None = None
    ) -> ApiKeyRecord:
        """End a key at once.

        Raises NotFoundError; StorageUnavailableError if the register of erasures cannot be written:
        the key has ended then, and a repetition notes it.
        """
        record = await self._keys.revoke(key_id, tenant=tenant, at=clock.now())
        await self._note("revoke_key", record, by, request_id)
        # last, unlike an erasure: a key that leaked must not live on until the register is back
        await self._register.note([Mark("key", "", key_id)])
        return record

    def _make(self, record: ApiKeyRecord) -> NewKey:
        key = ApiKey.generate()
        pepper_id = self._peppers.active_id
        digest = self._peppers.digest(key, pepper_id)
        return NewKey(key, replace(record, id=key.id, pepper_id=pepper_id, digest=digest))

    async def _note(
        self,
        action: str,
        record: ApiKeyRecord,
        by: str,
        request_id: str | None,
        *,
        counts: Mapping[str, int] | None = None,
    ) -> None:
        line = AuditLine(
            at=clock.now(),
            tenant=record.tenant,
            actor=by,
            action=action,
            collection=None,
            receipt=record.id,
            counts=counts or {},
            request_id=request_id,
        )
        await self._audit.add(line)


_NOBODY: Final = ApiKeyRecord(
    id="",
    tenant="",
    name="",
    roles=(),
    collections=None,
    pepper_id="",
    digest="",
    created_at=0.0,
    created_by="",
)
