"""The body of a request in pieces, however the client cut it into chunks.

A chunk of HTTP/1.1 may hold one byte. A million of them cost a server far more than their megabyte:
NVIDIA Triton 24.10 dies of it (CVE-2025-23310), and here they would hold up the event loop.
"""

import asyncio
from typing import Final, Self

from aiohttp import web

from gateway.errors import InvalidRequestError

READ_BUFFER_BYTES: Final = 64 * 1024
"""What is read ahead of a body. aiohttp pauses the parser after a sixteenth as many chunks, 4,096,
which are parsed in one go: this bounds how long one connection holds up all others."""
_FREE_CHUNKS: Final = 16_384
_BYTES_PER_CHUNK: Final = 64
"""Mean size below which chunks are refused, `_FREE_CHUNKS` at the start apart."""
_CHUNKS_IN_A_ROW: Final = 256
"""Then others have their turn: chunks that are there already are read without a pause."""


class Pieces:
    """The bytes of a request's body as they come: `async for piece in Pieces(request)`.

    Raises InvalidRequestError when the body comes in more chunks than its size explains. What the
    client sends after that is dropped unread, and the connection closes some seconds after the
    answer.
    """

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._chunks = 0
        self._size = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        content = self._request.content
        piece = bytearray()
        while not content.at_eof():
            data, ends_chunk = await content.readchunk()
            if not data and not ends_chunk:
                break
            piece += data
            self._count(len(data), chunks=int(ends_chunk))
            others_turn = ends_chunk and self._chunks % _CHUNKS_IN_A_ROW == 0
            if others_turn:
                await asyncio.sleep(0)
            all_taken = content.total_bytes == self._size
            if piece and (all_taken or others_turn or len(piece) >= READ_BUFFER_BYTES):
                break
        if not piece:
            raise StopAsyncIteration
        return bytes(piece)

    def _count(self, size: int, *, chunks: int) -> None:
        self._size += size
        self._chunks += chunks
        if self._chunks > _FREE_CHUNKS + self._size // _BYTES_PER_CHUNK:
            # from here on the protocol does not parse what comes
            self._request.protocol.close()
            message = f"{self._chunks} chunks for {self._size} bytes: send larger chunks"
            raise InvalidRequestError(message)
