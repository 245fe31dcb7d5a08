"""The settings of a worker's own cache."""

from gateway.settings import Settings
from gateway.worker.process import cache_settings


def test_a_worker_does_not_keep_answers_about_deleted_faces_for_a_day():
    alone = cache_settings(Settings(cache_memory_ttl_seconds=60.0, cache_ttl_seconds=86_400.0))
    assert alone.cache_ttl_seconds == 60.0
    # what it writes to Redis is found by a deletion
    shared = cache_settings(Settings(redis_url="redis://cache", cache_ttl_seconds=86_400.0))
    assert shared.cache_ttl_seconds == 86_400.0
