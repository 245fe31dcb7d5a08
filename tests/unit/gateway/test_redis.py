import pytest
from redis.asyncio.connection import SSLConnection

from gateway.errors import ConfigurationError
from gateway.redis import connect


@pytest.mark.parametrize(
    "url",
    [
        "http://:secret@cache",
        "redis://:secret@cache:port",
        "secret",
        "redis+sentinel://:secret@one,two",
        "redis+sentinel://:secret@one,/name",
        "redis+sentinel://:secret@one:port/name",
        "redis+sentinel://:secret@one:65536/name",
        "redis+sentinel://:secret@one/name/database",
        "redis+sentinel://:secret@one/name?password=secret",
        "redis+sentinel://:secret@one/name?sentinel_password=secret&sentinel_password=secret",
        "unix+sentinel://:secret@one/name",
    ],
)
async def test_a_malformed_url_is_refused_and_not_repeated(url):
    with pytest.raises(ConfigurationError, match="AURUM_REDIS_URL") as refusal:
        connect(url, purpose="cache", timeout_seconds=1)
    assert "secret" not in str(refusal.value)


async def test_a_url_of_sentinels_names_them_the_master_and_both_passwords():
    client = connect(
        "redis+sentinel://user:p%40ss@one,two:7000,[::1]:7001/name/3?sentinel_password=other",
        purpose="cache",
        timeout_seconds=3,
    )
    pool = client.connection_pool
    asked = [each.connection_pool.connection_kwargs for each in client.watchers.sentinels]
    assert [(each["host"], each["port"]) for each in asked] == [
        ("one", 26379),
        ("two", 7000),
        ("::1", 7001),
    ]
    # one that does not answer leaves time for the others
    assert {each["socket_timeout"] for each in asked} == {1}
    assert {each["password"] for each in asked} == {"other"}
    assert pool.service_name == "name"
    given = pool.connection_kwargs
    assert (given["username"], given["password"], given["db"]) == ("user", "p@ss", 3)
    await client.aclose()


async def test_masters_and_sentinels_are_encrypted_with_the_same_files():
    client = connect("rediss+sentinel://one/name", purpose="cache", timeout_seconds=1)
    pools = [client.connection_pool, client.watchers.sentinels[0].connection_pool]
    assert all(issubclass(pool.connection_class, SSLConnection) for pool in pools)
    assert pools[0].connection_kwargs["tls"] is pools[1].connection_kwargs["tls"]
    await client.aclose()
