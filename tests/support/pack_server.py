"""A local HTTP server of pack archives that can be slow, broken, truncated or range-less."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from aiohttp import web


@dataclass
class PackServer:
    """What is served, and how badly.

    ranges: whether `Range` is honoured. cut: after so many bytes the first answers end early.
    failures: statuses of the first answers. stall: seconds of silence within the first answers.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    etag: str = '"one"'
    ranges: bool = True
    cut: list[int] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)
    stalls: list[float] = field(default_factory=list)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    """Path and `Range` of each request."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.path, request.headers.get("Range")))
        data = self.files.get(request.path)
        if data is None:
            return web.Response(status=404)
        if self.failures:
            return web.Response(status=self.failures.pop(0))
        start = 0
        wanted = request.headers.get("Range")
        if self.ranges and wanted and request.headers.get("If-Range") == self.etag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        response = web.StreamResponse(status=206 if start else 200)
        if self.etag:
            response.headers["ETag"] = self.etag
        response.content_length = len(data) - start
        await response.prepare(request)
        end = start + self.cut.pop(0) if self.cut else len(data)
        if self.stalls:
            await response.write(data[start : start + 10])
            await asyncio.sleep(self.stalls.pop(0))
            start += 10
        await response.write(data[start:end])
        if end < len(data) and request.transport is not None:
            request.transport.close()
        return response


@contextmanager
def pack_server() -> Iterator[PackServer]:
    """Serve on a free port, from a thread of its own."""
    server, loop = PackServer(), asyncio.new_event_loop()
    ready, stop = threading.Event(), asyncio.Event()

    async def serve() -> None:
        app = web.Application()
        app.router.add_get("/{path:.*}", server.answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        server.url = f"http://{host}:{port}"
        ready.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=[serve()])
    thread.start()
    try:
        if not ready.wait(60):
            raise TimeoutError("the server did not start")
        yield server
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
