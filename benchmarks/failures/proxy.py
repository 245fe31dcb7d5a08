"""A TCP proxy between the gateway and one of its components, which can be made to misbehave."""

import asyncio
import contextlib
import random
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Literal, Self

Mode = Literal["pass", "refuse", "hang", "slow", "garbage", "flip"]
"""What the proxy does with connections, also with those that are open already.

refuse: closes them. hang: swallows all bytes. slow: see `DELAY_SECONDS` and `BYTES_PER_SECOND`.
garbage: answers each piece with random bytes, which the component never sees. flip: changes single
bytes of the component's answers.
"""
DELAY_SECONDS: Final = 0.5
"""How much later a slow connection delivers a piece, in each direction."""
BYTES_PER_SECOND: Final = 20_000
"""What a slow connection delivers at most, in each direction."""
_PIECE_BYTES: Final = 64 * 1024
_GARBAGE_BYTES: Final = 400
_FLIPPED_OF: Final = 200
"""One byte of so many is changed, at least one of each piece."""
_SEED: Final = 7


@dataclass(frozen=True, slots=True)
class _Pipe:
    """One direction of a connection; `back` is the way to its sender."""

    source: asyncio.StreamReader
    sink: asyncio.StreamWriter
    back: asyncio.StreamWriter
    from_client: bool


class Proxy:
    """Listens on a port of 127.0.0.1 for as long as its context is open."""

    def __init__(self, port: int, *, target_port: int) -> None:
        """Pass everything on to `target_port` until `mode` is set to something else."""
        self.port = port
        self._target_port = target_port
        self._mode: Mode = "pass"
        self._random = random.Random(_SEED)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._server is not None:
            self._server.close()
        self.close_connections()

    @property
    def mode(self) -> Mode:
        """What it does now."""
        return self._mode

    def become(self, mode: Mode) -> None:
        """Change what it does with open and new connections.

        Connections that received something wrong are closed when it passes everything on again:
        bytes are missing in them.
        """
        if mode == "refuse" or (mode == "pass" and self._mode not in ("pass", "slow")):
            self.close_connections()
        self._mode = mode

    def close_connections(self) -> None:
        """Close all connections at once."""
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await self._join(reader, writer)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._mode == "refuse":
            writer.transport.abort()
            return
        self._writers.add(writer)
        try:
            there = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            self._end(writer)
            return
        self._writers.add(there[1])
        pipes = (
            _Pipe(reader, there[1], writer, from_client=True),
            _Pipe(there[0], writer, there[1], from_client=False),
        )
        ways = [asyncio.create_task(self._pump(pipe)) for pipe in pipes]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            self._end(writer)
            self._end(there[1])

    def _end(self, writer: asyncio.StreamWriter) -> None:
        self._writers.discard(writer)
        writer.transport.abort()

    async def _pump(self, pipe: _Pipe) -> None:
        with contextlib.suppress(OSError):
            while piece := await pipe.source.read(_PIECE_BYTES):
                await self._deliver(piece, pipe)

    async def _deliver(self, piece: bytes, pipe: _Pipe) -> None:
        if self._mode == "hang":
            return
        if self._mode == "garbage":
            if pipe.from_client:
                pipe.back.write(self._random.randbytes(_GARBAGE_BYTES))
                await pipe.back.drain()
            return
        if self._mode == "slow":
            await asyncio.sleep(DELAY_SECONDS + len(piece) / BYTES_PER_SECOND)
        elif self._mode == "flip" and not pipe.from_client:
            piece = self._flipped(piece)
        pipe.sink.write(piece)
        await pipe.sink.drain()

    def _flipped(self, piece: bytes) -> bytes:
        changed = bytearray(piece)
        for _ in range(1 + len(piece) // _FLIPPED_OF):
            changed[self._random.randrange(len(piece))] ^= self._random.randrange(1, 256)
        return bytes(changed)
