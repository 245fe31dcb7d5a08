"""Connections are kept, and requests say who sends them."""

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest
from aurum_client import AsyncAurumClient, AurumClient, __version__


class Handler(BaseHTTPRequestHandler):
    """Answers that it is live, and remembers connections and headers."""

    protocol_version = "HTTP/1.1"
    seen: ClassVar[list[tuple[tuple[str, int], str, dict[str, str]]]] = []

    def do_GET(self) -> None:
        self.seen.append((self.client_address, self.path, dict(self.headers)))
        body = b'{"status": "live"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def url() -> Iterator[str]:
    Handler.seen.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}/behind/a/path"
        server.shutdown()


def ten_sync(url: str) -> None:
    with AurumClient(url, headers={"Authorization": "Bearer x"}) as client:
        for _ in range(10):
            assert client.live().status == "live"


def ten_async(url: str) -> None:
    async def run() -> None:
        async with AsyncAurumClient(url, headers={"Authorization": "Bearer x"}) as client:
            for _ in range(10):
                assert (await client.live()).status == "live"

    asyncio.run(run())


@pytest.mark.parametrize("ten", [ten_sync, ten_async])
def test_calls_share_a_connection(ten, url):
    ten(url)
    addresses, paths, headers = zip(*Handler.seen, strict=True)
    assert len(addresses) == 10
    assert len(set(addresses)) == 1
    assert set(paths) == {"/behind/a/path/api/health/live"}
    assert headers[0]["User-Agent"] == f"aurum-client/{__version__}"
    assert headers[0]["Authorization"] == "Bearer x"


@pytest.mark.parametrize("kind", [AurumClient, AsyncAurumClient])
def test_other_addresses_are_refused(kind):
    with pytest.raises(ValueError, match="http or https"):
        kind("localhost:8080")
