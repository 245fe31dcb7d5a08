"""Fixtures of the integration tests."""

from tests.support.collection_world import world
from tests.support.records import postgres

__all__ = ["postgres", "world"]
