"""The body of a request in pieces, whatever the chunks in which the client sends it.

A chunk of HTTP/1.1 may have one byte. A million of them cost a server far more than their megabyte:
they kill NVIDIA Triton 24.10 (CVE-2025-23310), and would block the event loop here.
"""

import asyncio
from typing import Final, Self

from aiohttp import web

from gateway.errors import InvalidRequestError

READ_BUFFER_BYTES: Final = 64 * 1024
"""Bytes of a body that are read ahead. aiohttp pauses its parser after a sixteenth as many chunks,
4,096, which it parses in one go: this bounds how long one connection blocks all others."""
_FREE_CHUNKS: Final = 16_384
_BYTES_PER_CHUNK: Final = 64
"""Lowest mean size of chunks, beyond the first `_FREE_CHUNKS`."""
_CHUNKS_IN_A_ROW: Final = 256
"""Chunks read before other tasks get a turn; chunks that have arrived are read without a pause."""


class Pieces:
    """The bytes of a request's body as they arrive: `async for piece in Pieces(request)`.

    Raises InvalidRequestError if the body has more chunks than its size justifies. The rest of the
    body is then dropped unread, and the connection closes some seconds after the answer.
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
            # from here on the protocol does not parse what arrives
            self._request.protocol.close()
            message = f"{self._chunks} chunks for {self._size} bytes; send larger chunks"
            raise InvalidRequestError(message)
