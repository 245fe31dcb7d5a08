"""Fixtures of the contract tests."""

from tests.support.chart_cases import chart_case, helm, release, releases
from tests.support.records import (
    database_url,
    migrated_postgres,
    migrated_url,
    postgres,
    records,
    set_clock,
)

__all__ = [
    "chart_case",
    "database_url",
    "helm",
    "migrated_postgres",
    "migrated_url",
    "postgres",
    "records",
    "release",
    "releases",
    "set_clock",
]
