"""The tables of access: API keys, and what each tenant has used. Times are seconds since 1970."""

from typing import Final

from sqlalchemy import JSON, Column, Double, Index, Integer, String, Table

from gateway.records.tables import METADATA

API_KEYS: Final = Table(
    "api_keys",
    METADATA,
    Column("id", String(24), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("name", String(100), nullable=False),
    Column("roles", JSON, nullable=False),
    Column("collections", JSON),
    Column("pepper_id", String(16), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("created_by", String(64), nullable=False),
    Column("expires_at", Double),
    Column("revoked_at", Double),
    Column("last_used_at", Double),
    Column("replaces", String(24)),
    Column("limits", JSON(none_as_null=True)),
    Index(None, "tenant", "created_at", "id"),
)
"""Keys without their secrets. digest: HMAC-SHA-256 of the key under the pepper `pepper_id`,
hexadecimal. collections: names that the key is limited to, empty for all. replaces: the key that
this one was rotated from. limits: its own ones, by the names of `types.RateLimits`; empty for
none. Rows stay after revocation, for the audit."""

USAGE: Final = Table(
    "tenant_usage",
    METADATA,
    Column("tenant", String(64), primary_key=True),
    Column("day", String(10), primary_key=True),
    Column("images", Integer, nullable=False),
)
"""Images that each tenant sent on each day (UTC, `2026-11-29`)."""
