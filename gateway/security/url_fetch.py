"""Fetches small documents from URLs that an operator chose: bounded in size and time."""

import asyncio
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from gateway.security.hosts import is_loopback

MAX_BYTES: Final = 256 * 1024
TIMEOUT_SECONDS: Final = 5.0


class FetchError(Exception):
    """The document cannot be had; the text says why, without the URL's query."""


def check_url(url: str) -> str | None:
    """Say why a URL is refused; None if it is not.

    Only https is accepted, except on this machine: whoever is on the way could exchange the
    document.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return "it is not a URL"
    if parts.username or parts.password:
        return "it contains a password"
    if parts.scheme == "https" and host:
        return None
    if parts.scheme == "http" and is_loopback(host):
        return None
    return "it must be an https URL (http only on this machine)"


async def fetch(
    url: str, *, max_bytes: int = MAX_BYTES, timeout_seconds: float = TIMEOUT_SECONDS
) -> bytes:
    """Get a document; redirects are not followed. Raises FetchError."""
    timeout = aiohttp.ClientTimeout(total=timeout_seconds)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=False) as session,
            session.get(
                url,
                allow_redirects=False,
                # what unpacks to a thousand times its size is not asked for
                headers={"Accept-Encoding": "identity"},
            ) as response,
        ):
            if response.status != 200:
                raise FetchError(f"it answers {response.status}")
            body = bytearray()
            async for piece in response.content.iter_chunked(16 * 1024):
                body += piece
                if len(body) > max_bytes:
                    raise FetchError(f"it sends more than {max_bytes} bytes")
            return bytes(body)
    except TimeoutError as error:
        raise FetchError(f"it did not answer within {timeout_seconds:g} s") from error
    except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError) as error:
        raise FetchError(f"it cannot be reached ({type(error).__name__})") from error
