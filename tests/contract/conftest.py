"""Fixtures of the contract tests."""

from tests.support.records import (
    database_url,
    migrated_postgres,
    migrated_url,
    postgres,
    records,
    set_clock,
)

__all__ = [
    "database_url",
    "migrated_postgres",
    "migrated_url",
    "postgres",
    "records",
    "set_clock",
]
