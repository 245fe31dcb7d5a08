"""Clients of the service for commands: they use the system's certificates and no proxy.

A proxy in the environment is meant for the internet, and the default address is this machine.
"""

import ssl
from collections.abc import Mapping

import httpx
from aurum_client import AsyncAurumClient, AurumClient, RetryPolicy, TimeLimits

from tools.aiohttp_transport import AiohttpTransport
from tools.errors import BatchError


def open_client(url: str, *, headers: Mapping[str, str]) -> AurumClient:
    """Make a client; raises BatchError if `url` is not a URL."""
    _check(url)
    return AurumClient(url, headers=headers, transport=httpx.HTTPTransport(verify=_context(url)))


def open_async_client(
    url: str,
    *,
    headers: Mapping[str, str],
    connections: int,
    limits: TimeLimits,
    retry: RetryPolicy,
) -> AsyncAurumClient:
    """Make a client for asyncio with so many connections; raises BatchError as `open_client`."""
    _check(url)
    transport = AiohttpTransport(connections=connections, context=_context(url))
    return AsyncAurumClient(url, headers=headers, limits=limits, retry=retry, transport=transport)


def _check(url: str) -> None:
    if not url.startswith(("http://", "https://")):
        raise BatchError(f"--url: {url} does not begin with http:// or https://")
    try:
        host = httpx.URL(url).host
    except httpx.InvalidURL as error:
        raise BatchError(f"--url: {url!r} is not a URL: {error}") from error
    if not host:
        raise BatchError(f"--url: {url!r} is not a URL: it has no host")


def _context(url: str) -> ssl.SSLContext | bool:
    # loading the certificates takes time, and plain HTTP needs none
    return ssl.create_default_context() if url.startswith("https://") else False
