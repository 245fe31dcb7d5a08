import pytest

from gateway.errors import ConfigurationError
from gateway.redis import connect


@pytest.mark.parametrize("url", ["http://:secret@cache", "redis://:secret@cache:port", "secret"])
async def test_a_malformed_url_is_refused_and_not_repeated(url):
    with pytest.raises(ConfigurationError, match="AURUM_REDIS_URL") as refusal:
        connect(url, purpose="cache", timeout_seconds=1)
    assert "secret" not in str(refusal.value)
