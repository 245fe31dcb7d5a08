"""Clients of the service for commands: which certificates they accept, and that no proxy is used.

A proxy in the environment is meant for the internet, and the default address is this machine.
"""

import ssl
from collections.abc import Mapping

import httpx
from aurum_client import AsyncAurumClient, AurumClient, RetryPolicy, TimeLimits

from gateway.errors import ConfigurationError
from gateway.settings import PREFIX, Settings
from gateway.tls import ClientTls
from gateway.tls_files import files_for_gateway
from tools.clients.aiohttp_transport import AiohttpTransport
from tools.clients.gateway_tls import own_gateway_context
from tools.clients.listeners import gateway_url
from tools.errors import BatchError


def open_client(url: str, settings: Settings, *, headers: Mapping[str, str]) -> AurumClient:
    """Make a client; raises as `gateway_context`."""
    transport = httpx.HTTPTransport(verify=gateway_context(url, settings))
    return AurumClient(url, headers=headers, transport=transport)


def open_async_client(
    url: str,
    settings: Settings,
    *,
    headers: Mapping[str, str],
    connections: int,
    limits: TimeLimits,
    retry: RetryPolicy,
) -> AsyncAurumClient:
    """Make a client for asyncio with so many connections; raises as `gateway_context`."""
    context = gateway_context(url, settings)
    transport = AiohttpTransport(connections=connections, context=context)
    return AsyncAurumClient(url, headers=headers, limits=limits, retry=retry, transport=transport)


def gateway_context(url: str, settings: Settings) -> ssl.SSLContext | bool:
    """Return what checks the gateway at `url`; False: it speaks plain HTTP.

    The gateway of this machine shows the certificate in `AURUM_TLS_CERTIFICATE_FILE`; others one
    by the authorities in `AURUM_GATEWAY_CA_FILE`, or by the system's.

    Raises:
        BatchError: `url` is not a URL.
        ConfigurationError: a file cannot be used.

    """
    _check(url)
    if not url.startswith("https://"):
        # loading the certificates takes time, and plain HTTP needs none
        return False
    if url == gateway_url(settings):
        try:
            own = own_gateway_context(settings)
        except OSError as error:
            raise ConfigurationError(f"{PREFIX}TLS_CERTIFICATE_FILE: {error}") from error
        return own or False
    return ClientTls(files_for_gateway(settings)).context()


def _check(url: str) -> None:
    if not url.startswith(("http://", "https://")):
        raise BatchError(f"--url: {url} does not begin with http:// or https://")
    try:
        host = httpx.URL(url).host
    except httpx.InvalidURL as error:
        raise BatchError(f"--url: {url!r} is not a URL: {error}") from error
    if not host:
        raise BatchError(f"--url: {url!r} is not a URL: it has no host")
