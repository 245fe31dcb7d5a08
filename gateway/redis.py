"""The one way to Redis: its URL, timeouts, pool, client name and errors.

No other module imports the `redis` package; `lint-imports` enforces it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from redis.asyncio import Redis
from redis.asyncio.connection import Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelManagedConnection
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from gateway.errors import ConfigurationError
from gateway.settings import PREFIX
from gateway.tls import NO_FILES, ClientTls, TlsFiles

__all__ = ["UNREACHABLE", "Redis", "RedisError", "ResponseError", "connect"]

UNREACHABLE: Final = (
    RedisError,
    OSError,
    # an answer that is no Redis protocol fails wherever the client stumbles over it
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What a call raises if Redis does not answer, refuses, answers too late, or answers garbage."""
_CONNECTIONS: Final = 64
_CLIENT_NAME: Final = "aurum-{purpose}"
_NOT_A_URL: Final = f"{PREFIX}REDIS_URL is no redis://, rediss://, unix:// or redis+sentinel:// URL"
_SENTINEL_SCHEMES: Final = ("redis+sentinel", "rediss+sentinel")
_SENTINEL_PORT: Final = 26379
_HIGHEST_PORT: Final = 65535


class _Encrypted(SSLConnection):
    """A connection that uses the certificate files as they are when it connects."""

    def __init__(self, *, tls: ClientTls, **more: Any) -> None:
        self._tls = tls
        super().__init__(**more)

    def _connection_arguments(self) -> Mapping[str, Any]:
        return {**super()._connection_arguments(), "ssl": self._tls.context()}


class _EncryptedMaster(SentinelManagedConnection, _Encrypted):
    """An encrypted connection to the server that is the master when it connects."""


class _Master(Redis):
    """A client of the master that Sentinels name."""

    watchers: Sentinel

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close the connections to the master and to the Sentinels."""
        await super().aclose(close_connection_pool)
        await self.watchers.aclose()


@dataclass(frozen=True, slots=True)
class _SentinelAddress:
    """What a URL says about Sentinels and the master that they watch."""

    hosts: tuple[tuple[str, int], ...]
    service: str
    database: int
    is_encrypted: bool
    username: str | None = field(repr=False)
    password: str | None = field(repr=False)
    sentinel_password: str | None = field(repr=False)


def connect(
    url: str,
    *,
    purpose: str,
    timeout_seconds: float,
    connections: int = _CONNECTIONS,
    files: TlsFiles = NO_FILES,
) -> Redis:
    """Make a client, which connects with its first call; within a running event loop.

    Calls are not repeated: each caller knows what to do without Redis.

    Args:
        url: `redis://`, `rediss://` or `unix://`; for a master that Sentinels name,
            `redis+sentinel://[user:password@]host[:26379],host2/name[/database]`, or
            `rediss+sentinel://` if both it and they speak TLS. `?sentinel_password=…` is for
            the Sentinels.
        purpose: part of the name that `CLIENT LIST` shows, `aurum-<purpose>`.
        timeout_seconds: for connecting, and for each read.
        connections: bound of the pool; a call beyond it fails.
        files: certificates, for `rediss://` and `rediss+sentinel://`.

    Raises:
        ConfigurationError: a file cannot be used, or is set for a URL that is not `rediss://`; the
            URL is malformed; it is not repeated, as it may hold a password.

    """
    set_files = [variable for variable, _ in files.named()]
    if set_files and not url.lower().startswith(("rediss://", "rediss+sentinel://")):
        message = f"{set_files[0]} is set: {PREFIX}REDIS_URL must begin with rediss"
        raise ConfigurationError(message)
    tls = ClientTls(files) if set_files else None
    options: dict[str, Any] = {
        "client_name": _CLIENT_NAME.format(purpose=purpose),
        "retry": Retry(NoBackoff(), 0),
        "max_connections": connections,
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
    }
    if "+sentinel://" in url:
        return _connect_to_master(_parse(url), options, tls)
    try:
        client: Redis = Redis.from_url(url, **options)
    except ValueError as error:
        raise ConfigurationError(_NOT_A_URL) from error
    if tls is not None:
        pool = client.connection_pool
        pool.connection_class = _Encrypted
        pool.connection_kwargs["tls"] = tls
    return client


def _connect_to_master(
    address: _SentinelAddress, options: Mapping[str, Any], tls: ClientTls | None
) -> Redis:
    """Make a client that asks the Sentinels for the master with each new connection."""
    if address.is_encrypted and tls is None:
        tls = ClientTls(NO_FILES)
    # a Sentinel that does not answer must leave time for the next one
    seconds = options["socket_timeout"] / len(address.hosts)
    watchers = Sentinel(  # type: ignore[no-untyped-call]
        address.hosts,
        sentinel_kwargs={
            **options,
            "socket_timeout": seconds,
            "socket_connect_timeout": seconds,
            "password": address.sentinel_password,
        },
    )
    master_class: type[Connection] = SentinelManagedConnection
    more: dict[str, Any] = {}
    if tls is not None:
        master_class = _EncryptedMaster
        more["tls"] = tls
        for each in watchers.sentinels:
            each.connection_pool.connection_class = _Encrypted
            each.connection_pool.connection_kwargs["tls"] = tls
    client: _Master = watchers.master_for(
        address.service,
        redis_class=_Master,
        connection_class=master_class,
        username=address.username,
        password=address.password,
        db=address.database,
        **options,
        **more,
    )
    client.watchers = watchers
    return client


def _parse(url: str) -> _SentinelAddress:
    """Read a URL of Sentinels; raises ConfigurationError, which does not repeat it."""
    try:
        parts = urlsplit(url)
        user, _, hosts = parts.netloc.rpartition("@")
        username, _, password = user.partition(":")
        service, _, database = parts.path.removeprefix("/").partition("/")
        query = parse_qs(parts.query, strict_parsing=bool(parts.query))
        [sentinel_password] = query.pop("sentinel_password", [""])
        address = _SentinelAddress(
            hosts=tuple(_host(each) for each in hosts.split(",")),
            service=unquote(service),
            database=int(database or 0),
            is_encrypted=parts.scheme == "rediss+sentinel",
            username=unquote(username) or None,
            password=unquote(password) or None,
            sentinel_password=sentinel_password or None,
        )
    except ValueError:
        # not chained: its text may quote a password
        raise ConfigurationError(_NOT_A_URL) from None
    if parts.scheme not in _SENTINEL_SCHEMES or query or not address.service:
        raise ConfigurationError(_NOT_A_URL)
    return address


def _host(text: str) -> tuple[str, int]:
    """Read `host`, `host:port` or `[IPv6]:port`; raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(_SENTINEL_PORT)
    number = int(port)
    if not host.strip("[]") or not 1 <= number <= _HIGHEST_PORT:
        raise ValueError(text)
    return host.strip("[]"), number
