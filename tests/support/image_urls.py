"""Servers on this machine that tests fetch images from, and who says where they are."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from ssl import SSLContext

from gateway.app import FetcherFactory
from gateway.outbound.addresses import Address
from gateway.outbound.images import ImageFetcher, Observer, open_image_fetcher
from gateway.outbound.policy import CallersHosts
from gateway.settings import Settings

OPEN = "127.0.0.9"
"""The only address of this machine that `TestHosts` allows."""
CLOSED = "127.0.0.1"

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class TestHosts(CallersHosts):
    """What callers may name in production, and one address on which the test listens."""

    __test__ = False

    def allows(self, host: str, address: Address) -> bool:
        """See `AddressPolicy.allows`."""
        return str(address) == OPEN or super().allows(host, address)


@dataclass
class Names:
    """Name servers that answer from lists, in order; the last answer stays."""

    answers: Mapping[str, list[list[str]]]
    asked: list[str] = field(default_factory=list)

    async def addresses(self, host: str) -> list[str]:
        """See `Lookup.addresses`."""
        self.asked.append(host)
        answers = self.answers.get(host, [[]])
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def close(self) -> None:
        """Nothing is open."""


@dataclass
class RawServer:
    """Answers each connection as a handler writes it, and counts connections by address."""

    handler: Handler
    port: int = 0
    connections: list[str] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)
    server_names: list[str | None] = field(default_factory=list)

    def url(self, path: str = "/a.png", *, host: str = "images.test", scheme: str = "http") -> str:
        """Return a URL of this server."""
        return f"{scheme}://{host}:{self.port}{path}"

    @asynccontextmanager
    async def running(self, tls: SSLContext | None = None) -> AsyncIterator["RawServer"]:
        """Listen on both addresses, on the same port."""
        if tls is not None:
            tls.sni_callback = lambda _, name, __: self.server_names.append(name)
        async with asyncio.TaskGroup() as group:
            tasks: set[asyncio.Task[None]] = set()

            def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                task = group.create_task(self._answer(reader, writer))
                tasks.add(task)

            first = await asyncio.start_server(accept, OPEN, 0, ssl=tls)
            self.port = first.sockets[0].getsockname()[1]
            second = await asyncio.start_server(accept, CLOSED, self.port, ssl=tls)
            try:
                yield self
            finally:
                first.close()
                second.close()
                for task in tasks:
                    task.cancel()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(writer.get_extra_info("sockname")[0])
        try:
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            await self.handler(reader, writer)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def answering(*answers: bytes) -> Handler:
    """Answer with these bytes, in order; the last answer stays."""
    left = list(answers)

    async def handle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(left.pop(0) if len(left) > 1 else left[0])

    return handle


def page(body: bytes, *headers: str, status: str = "200 OK", kind: str = "image/png") -> bytes:
    """Write an answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


def moved(location: str, status: str = "302 Found") -> bytes:
    """Write a redirect."""
    return page(b"", f"Location: {location}", status=status)


def opener(names: Names) -> FetcherFactory:
    """Let a gateway of a test fetch from the servers of the test."""
    return partial(open_image_fetcher, policy=TestHosts(), lookup=names)


@asynccontextmanager
async def fetching(
    server: RawServer,
    names: Names | None = None,
    observer: Observer = lambda _: None,
    **more: object,
) -> AsyncIterator[ImageFetcher]:
    """Open a fetcher for the port of a server, whose name is `images.test`."""
    settings = Settings(
        **{"image_urls": "public", "image_url_ports": str(server.port), **more}  # type: ignore[arg-type]
    )
    names = names or Names({"images.test": [[OPEN]]})
    async with open_image_fetcher(
        settings, observer=observer, policy=TestHosts(), lookup=names
    ) as fetcher:
        yield fetcher
