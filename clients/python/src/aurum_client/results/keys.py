"""An API key and its limits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Optional


@dataclass(frozen=True)
class KeyLimits:
    """A key's own limits; None is the default of the gateway."""

    requests_per_minute: Optional[int] = None
    burst: Optional[int] = None
    megapixels_per_minute: Optional[int] = None
    concurrent: Optional[int] = None


@dataclass(frozen=True)
class ApiKey:
    """A key without its secret."""

    request_id: str
    key_id: str
    tenant: str
    name: str
    roles: tuple[str, ...]
    collections: Optional[tuple[str, ...]]
    created_at: datetime
    created_by: str
    expires_at: Optional[datetime]
    revoked_at: Optional[datetime]
    last_used_at: Optional[datetime]
    replaces: Optional[str]
    limits: KeyLimits
    valid: bool
    """Whether it is neither revoked nor expired."""
