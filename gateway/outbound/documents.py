"""Fetches small documents from URLs that an operator chose: bounded in size and time."""

import asyncio
from typing import Final
from urllib.parse import urlsplit

from yarl import URL

from gateway.outbound.connector import RefusedAddressError, open_session
from gateway.outbound.download import DownloadError, download
from gateway.outbound.lookup import Lookup
from gateway.outbound.policy import OperatorsHosts, is_this_machine

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
    if parts.scheme == "http" and is_this_machine(host):
        return None
    return "it must be an https URL (http only on this machine)"


async def fetch(
    url: str,
    *,
    max_bytes: int = MAX_BYTES,
    timeout_seconds: float = TIMEOUT_SECONDS,
    lookup: Lookup | None = None,
) -> bytes:
    """Get a document; redirects are not followed. Raises FetchError."""
    try:
        async with (
            asyncio.timeout(timeout_seconds),
            open_session(OperatorsHosts(), at_once=1, lookup=lookup) as session,
        ):
            answer = await download(
                session, URL(url), max_bytes=max_bytes, head_seconds=timeout_seconds
            )
    except TimeoutError as error:
        raise FetchError(f"it did not answer within {timeout_seconds:g} s") from error
    except RefusedAddressError as error:
        raise FetchError("its host has no address that may be connected to") from error
    except (DownloadError, ValueError) as error:
        raise FetchError(str(error)) from error
    if answer.status != 200:
        raise FetchError(f"it answers {answer.status}")
    return answer.body
