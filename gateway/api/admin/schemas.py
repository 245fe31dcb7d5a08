"""Shapes of the JSON that the admin routes take and return."""

from pydantic import Field

from gateway.api.collections.schemas import Name
from gateway.api.pagination import PageOut
from gateway.api.shapes import Shape
from gateway.security.key_service import (
    MAX_COLLECTIONS,
    MAX_DAYS,
    MAX_OVERLAP_SECONDS,
    MOST_LIMITS,
)
from gateway.security.roles import Role, RoleName

_HOUR_SECONDS = 3600


class KeyLimits(Shape):
    """Limits of a single key; null, or a missing one, is the default of the gateway."""

    requests_per_minute: int | None = Field(
        default=None, ge=1, le=MOST_LIMITS["requests_per_minute"]
    )
    """Requests a minute."""
    burst: int | None = Field(default=None, ge=1, le=MOST_LIMITS["burst"])
    """Requests at once after a pause; needs `requests_per_minute`, and is as large without it."""
    megapixels_per_minute: int | None = Field(
        default=None, ge=1, le=MOST_LIMITS["megapixels_per_minute"]
    )
    """Megapixels a minute of the images that are sent."""
    concurrent: int | None = Field(default=None, ge=1, le=MOST_LIMITS["concurrent"])
    """Requests that are answered at a time."""


class KeyLimitsChange(KeyLimits):
    """Limits of a key to change; those left out stay, null is the default of the gateway."""


class KeyChange(Shape):
    """What changes about a key."""

    limits: KeyLimitsChange = Field(default_factory=KeyLimitsChange)
    """Its own limits; those left out do not change, null lets the default of the gateway apply."""


class KeyIn(Shape):
    """A new key of the caller's tenant."""

    name: str = Field(pattern=r"^[ -~]{1,100}$")
    """Whom or what it is for."""
    roles: list[RoleName] = Field(min_length=1, max_length=len(Role))
    collections: list[Name] | None = Field(default=None, min_length=1, max_length=MAX_COLLECTIONS)
    """Names that the key is limited to, whether they exist or not; null for all of the tenant."""
    expires_in_days: float | None = Field(default=None, gt=0, le=MAX_DAYS, allow_inf_nan=False)
    """Days for which the key is valid; null for good."""
    limits: KeyLimits | None = None
    """Its own limits, instead of the defaults of the gateway."""


class RotateIn(Shape):
    """How long both keys are valid."""

    overlap_hours: float = Field(
        default=24.0, ge=0, le=MAX_OVERLAP_SECONDS / _HOUR_SECONDS, allow_inf_nan=False
    )
    """Hours for which the old key stays valid, unless it expires before."""


class KeyOut(Shape):
    """A key without its secret."""

    key_id: str
    tenant: str
    name: str
    roles: list[str]
    collections: list[str] | None
    created_at: str
    created_by: str
    expires_at: str | None
    """`created_at` if what is stored is no time: such a key counts as expired."""
    revoked_at: str | None
    last_used_at: str | None
    """Accurate to a minute or two."""
    replaces: str | None
    """The key that this one was rotated from."""
    limits: KeyLimits
    """Its own limits; null where the default of the gateway applies."""
    valid: bool
    """Whether it is neither revoked nor expired."""


class KeyAnswer(KeyOut):
    """A key."""

    request_id: str


class NewKeyAnswer(KeyAnswer):
    """A new key, with its secret."""

    key: str
    """The whole key. It is shown this once and cannot be read again."""


class KeysOut(PageOut):
    """Keys, oldest first."""

    keys: list[KeyOut]


class WebhookSecretOut(Shape):
    """The secret that signs the webhooks of the caller's tenant."""

    request_id: str
    tenant: str
    secret: str


class AuditLineOut(Shape):
    """What was done: never an image, an embedding or the name of a person."""

    at: str
    actor: str
    action: str
    collection: str | None
    receipt: str
    """Of a deletion; of a key or a job, its id; otherwise empty."""
    counts: dict[str, int]
    request_id: str | None
    outcome: str | None
    """`ok`, `begun` for a stream, or the code of the problem; null in lines of before."""


class AuditOut(PageOut):
    """Lines of the audit log, newest first."""

    lines: list[AuditLineOut]
