"""Documents from real servers on loopback: large, slow, redirecting, compressed."""

import asyncio
import gzip
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from gateway.outbound.documents import FetchError, check_url, fetch
from tests.support.image_urls import Names


@asynccontextmanager
async def answering(handler):
    app = web.Application()
    app.router.add_get("/{path:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/keys"
    finally:
        await runner.cleanup()


async def test_a_document_is_fetched():
    async def answer(request):
        assert request.headers["Accept-Encoding"] == "identity"
        return web.Response(body=b"{}")

    async with answering(answer) as url:
        assert await fetch(url) == b"{}"


async def test_a_large_document_is_given_up():
    async def answer(request):
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(1000):
            await response.write(b"x" * 10_000)
        return response

    async with answering(answer) as url:
        with pytest.raises(FetchError, match="more than 20000 bytes"):
            await fetch(url, max_bytes=20_000)


async def test_a_compressed_document_is_not_unpacked():
    async def answer(request):
        body = gzip.compress(b"x" * 1_000_000)
        return web.Response(body=body, headers={"Content-Encoding": "gzip"})

    async with answering(answer) as url:
        with pytest.raises(FetchError, match="compressed"):
            await fetch(url, max_bytes=20_000)


async def test_a_slow_document_is_given_up():
    async def answer(request):
        response = web.StreamResponse()
        await response.prepare(request)
        await asyncio.sleep(1)
        return response

    async with answering(answer) as url:
        with pytest.raises(FetchError, match=r"within 0\.2 s"):
            await fetch(url, timeout_seconds=0.2)


async def test_redirects_are_not_followed():
    async def answer(request):
        if request.path == "/keys":
            raise web.HTTPFound("/other")
        return web.Response(body=b"{}")

    async with answering(answer) as url:
        with pytest.raises(FetchError, match="302"):
            await fetch(url)


async def test_nobody_there():
    with pytest.raises(FetchError, match="cannot be reached"):
        await fetch("http://127.0.0.1:9/keys")


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "::ffff:127.0.0.1"])
async def test_an_issuer_that_moves_to_this_machine_is_not_asked(address):
    names = Names({"login.example.com": [[address]]})
    asked = []

    async def answer(request):
        asked.append(request.path)
        return web.Response(body=b"{}")

    async with answering(answer) as url:
        port = url.split(":")[2]
        with pytest.raises(FetchError, match="no address that may be connected to"):
            await fetch(f"http://login.example.com:{port}", lookup=names)
    assert asked == []
    assert names.asked == ["login.example.com"]


@pytest.mark.parametrize(
    ("url", "accepted"),
    [
        ("https://login.example.com/keys", True),
        ("http://127.0.0.1:9/keys", True),
        ("http://[::1]/keys", True),
        ("http://localhost/keys", True),
        ("http://login.example.com/keys", False),
        ("http://127.0.0.1.example.com/keys", False),
        ("https:///keys", False),
        ("file:///etc/passwd", False),
        ("https://a:b@login.example.com", False),
        ("https://[", False),
        ("", False),
    ],
)
def test_which_urls_are_accepted(url, accepted):
    assert (check_url(url) is None) == accepted
