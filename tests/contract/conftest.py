"""Fixtures of the contract tests."""

from tests.support.records import database_url, postgres, records, set_clock

__all__ = ["database_url", "postgres", "records", "set_clock"]
