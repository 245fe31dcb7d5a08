"""Fixtures of the contract tests."""

from tests.support.records import database_url, postgres, records

__all__ = ["database_url", "postgres", "records"]
