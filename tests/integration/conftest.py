"""Fixtures of the integration tests."""

from tests.support.records import postgres

__all__ = ["postgres"]
