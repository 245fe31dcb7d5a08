"""One bounded GET: so many bytes, so long, no redirect, nothing unpacked."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import ClientError, ClientResponse, ClientSession
from yarl import URL

from gateway.outbound.connector import RefusedAddressError

_PIECE_BYTES: Final = 16 * 1024
OnBytes = Callable[[int], None]
"""Called with a number of bytes that are in memory from now on."""
_PLAIN: Final = frozenset({"", "identity"})
_HEADERS: Final = {
    "User-Agent": "Aurum",
    # what unpacks to a thousand times its size is not asked for, and not unpacked if it comes
    "Accept-Encoding": "identity",
}


class DownloadError(Exception):
    """Nothing can be had; the text says why, without the URL."""


class TooLargeError(DownloadError):
    """More bytes than are wanted."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answers: the body with status 200, the address of a redirect."""

    status: int
    media_type: str
    location: str | None
    body: bytes


async def download(
    session: ClientSession,
    url: URL,
    *,
    max_bytes: int,
    head_seconds: float,
    accept: str = "*/*",
    on_bytes: OnBytes = lambda _: None,
) -> Answer:
    """Get a URL; the caller limits the time of the whole.

    on_bytes: called with the size of each piece before it is kept; what it raises ends the
    download.

    Raises:
        RefusedAddressError: the host may not be connected to.
        TooLargeError: more than `max_bytes` are announced or arrive.
        DownloadError: no answer, or one that cannot be read.

    """
    try:
        async with asyncio.timeout(head_seconds):
            response = await session.get(
                url, allow_redirects=False, headers=_HEADERS | {"Accept": accept}
            )
        async with response:
            is_found = response.status == 200
            body = await _read(response, max_bytes, on_bytes) if is_found else b""
            return Answer(
                response.status, response.content_type, response.headers.get("Location"), body
            )
    except TimeoutError as error:
        raise DownloadError(f"it does not answer within {head_seconds:g} s") from error
    except RefusedAddressError:
        raise
    except (ClientError, OSError, ValueError, asyncio.IncompleteReadError) as error:
        raise DownloadError(f"it cannot be reached ({type(error).__name__})") from error


async def _read(response: ClientResponse, max_bytes: int, on_bytes: OnBytes) -> bytes:
    if response.headers.get("Content-Encoding", "").strip().lower() not in _PLAIN:
        raise DownloadError("its answer is compressed")
    if response.content_length is not None and response.content_length > max_bytes:
        raise TooLargeError(f"it sends more than {max_bytes} bytes")
    body = bytearray()
    async for piece in response.content.iter_chunked(_PIECE_BYTES):
        if len(body) + len(piece) > max_bytes:
            raise TooLargeError(f"it sends more than {max_bytes} bytes")
        on_bytes(len(piece))
        body += piece
    return bytes(body)
