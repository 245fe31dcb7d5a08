"""The one way to Redis: its URL, timeouts, pool, client name and errors.

No other module imports the `redis` package; `lint-imports` enforces it.
"""

from collections.abc import Mapping
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.connection import SSLConnection
from redis.asyncio.retry import Retry
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


class _Encrypted(SSLConnection):
    """A connection that uses the certificate files as they are when it connects."""

    def __init__(self, *, tls: ClientTls, **more: Any) -> None:
        self._tls = tls
        super().__init__(**more)

    def _connection_arguments(self) -> Mapping[str, Any]:
        return {**super()._connection_arguments(), "ssl": self._tls.context()}


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
        url: `redis://`, `rediss://` or `unix://`.
        purpose: part of the name that `CLIENT LIST` shows, `aurum-<purpose>`.
        timeout_seconds: for connecting, and for each read.
        connections: bound of the pool; a call beyond it fails.
        files: certificates, for `rediss://`.

    Raises:
        ConfigurationError: a file cannot be used, or is set for a URL that is not `rediss://`; the
            URL is malformed; it is not repeated, as it may hold a password.

    """
    set_files = [variable for variable, _ in files.named()]
    if set_files and not url.lower().startswith("rediss://"):
        message = f"{set_files[0]} is set: {PREFIX}REDIS_URL must begin with rediss://"
        raise ConfigurationError(message)
    try:
        client: Redis = Redis.from_url(
            url,
            client_name=_CLIENT_NAME.format(purpose=purpose),
            retry=Retry(NoBackoff(), 0),
            max_connections=connections,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
        )
    except ValueError as error:
        message = f"{PREFIX}REDIS_URL is no redis://, rediss:// or unix:// URL"
        raise ConfigurationError(message) from error
    if set_files:
        pool = client.connection_pool
        pool.connection_class = _Encrypted
        pool.connection_kwargs["tls"] = ClientTls(files)
    return client
