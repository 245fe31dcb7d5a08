"""Images from servers that rebind, stall, lie about their length or never end."""

import asyncio
import gzip
import logging
import ssl

import aiohttp.connector
import pytest
import trustme

from gateway.errors import (
    ImageTooLargeError,
    ImageUrlFailedError,
    ImageUrlRefusedError,
    UnsupportedMediaTypeError,
)
from gateway.outbound.connector import CheckedResolver
from gateway.outbound.lookup import SystemLookup
from tests.support.image_urls import (
    CLOSED,
    OPEN,
    Names,
    RawServer,
    TestHosts,
    answering,
    fetching,
    moved,
    page,
)

IMAGE = b"\x89PNG of the test"


async def test_an_image_is_fetched_and_logged_without_its_query(caplog):
    caplog.set_level(logging.INFO, "gateway")
    outcomes = []
    async with (
        RawServer(answering(page(IMAGE, "Set-Cookie: a=b"))).running() as server,
        fetching(server, observer=outcomes.append) as fetcher,
    ):
        url = server.url("/people/ada.png?signature=secret")
        for _ in range(2):
            assert await fetcher.fetch(url, tenant="acme", seconds=5) == IMAGE
    assert outcomes == ["fetched"] * 2
    assert server.connections == [OPEN] * 2
    for head in server.heads:
        lines = head.decode().lower().split("\r\n")
        assert lines[0] == "get /people/ada.png?signature=secret http/1.1"
        assert f"host: images.test:{server.port}" in lines
        assert "accept-encoding: identity" in lines
        names = {line.partition(":")[0] for line in lines[1:] if line}
        assert names <= {"host", "accept", "accept-encoding", "user-agent", "connection"}
    (first, _) = [record for record in caplog.records if record.message == "image URL"]
    assert first.url == f"http://images.test:{server.port}/people/ada.png"
    assert (first.tenant, first.outcome) == ("acme", "fetched")
    assert "secret" not in caplog.text


async def test_neither_proxy_nor_netrc_of_the_environment_is_used(monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine images.test login me password secret")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with RawServer(answering(page(IMAGE))).running() as server, fetching(server) as fetcher:
        assert await fetcher.fetch(server.url(), tenant="t", seconds=5) == IMAGE
    assert b"authorization" not in server.heads[0].lower()


async def test_a_name_that_changes_its_address_is_never_followed_there():
    """Each fetch asks once, and connects to what it was told and checked."""
    names = Names({"images.test": [[OPEN], [CLOSED], [OPEN], [OPEN, CLOSED], [CLOSED, OPEN]]})
    async with (
        RawServer(answering(page(IMAGE))).running() as server,
        fetching(server, names) as fetcher,
    ):
        outcomes = []
        for _ in range(5):
            try:
                outcomes.append(await fetcher.fetch(server.url(), tenant="t", seconds=5))
            except ImageUrlRefusedError as error:
                outcomes.append(error.code)
    refused = "image_url_refused"
    assert outcomes == [IMAGE, refused, IMAGE, refused, refused]
    assert names.asked == ["images.test"] * 5
    assert server.connections == [OPEN, OPEN]


class Forgetful(TestHosts):
    """Allows an address when the name is resolved, and not any more when the socket is open."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def allows(self, host, address):
        self.asked.append(str(address))
        return len(self.asked) == 1


async def test_the_open_socket_is_checked_before_a_byte_is_sent(monkeypatch):
    policy = Forgetful()
    monkeypatch.setattr("tests.support.image_urls.TestHosts", lambda: policy)
    async with RawServer(answering(page(IMAGE))).running() as server, fetching(server) as fetcher:
        with pytest.raises(ImageUrlRefusedError):
            await fetcher.fetch(server.url(), tenant="t", seconds=5)
    assert policy.asked == [OPEN, OPEN]
    assert server.heads == []


async def test_names_without_an_address_look_like_inner_ones():
    names = Names({"inner.test": [["10.0.0.1"]], "none.test": [[]], "odd.test": [["fe80::1%eth0"]]})
    async with (
        RawServer(answering(page(IMAGE))).running() as server,
        fetching(server, names) as fetcher,
    ):
        details = set()
        for host in ("inner.test", "none.test", "odd.test"):
            with pytest.raises(ImageUrlRefusedError) as error:
                await fetcher.fetch(server.url(host=host), tenant="t", seconds=5)
            details.add(error.value.detail)
    assert len(details) == 1


async def test_name_servers_that_do_not_answer():
    class Silent(Names):
        async def addresses(self, host):
            raise OSError("temporary failure in name resolution")

    async with (
        RawServer(answering(page(IMAGE))).running() as server,
        fetching(server, Silent({})) as fetcher,
    ):
        with pytest.raises(ImageUrlFailedError):
            await fetcher.fetch(server.url(), tenant="t", seconds=5)


async def test_the_system_is_asked_off_the_loop():
    lookup = SystemLookup()
    try:
        assert set(await lookup.addresses("localhost")) <= {"127.0.0.1", "::1"}
        results = await CheckedResolver(_Everything(), lookup).resolve("localhost", 80)
        assert {each["host"] for each in results} <= {"127.0.0.1", "::1"}
        assert all(each["port"] == 80 for each in results)
        assert await lookup.addresses("a" * 70 + ".test") == []
    finally:
        lookup.close()


class _Everything:
    def allows(self, host, address):
        return True


async def test_certificates_are_compared_with_the_name(monkeypatch):
    authority = trustme.CA()
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    monkeypatch.setattr(aiohttp.connector, "_SSL_CONTEXT_VERIFIED", trusting)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("images.test").configure_cert(serving)
    names = Names({"images.test": [[OPEN]], "other.test": [[OPEN]]})
    async with (
        RawServer(answering(page(IMAGE))).running(serving) as server,
        fetching(server, names) as fetcher,
    ):
        url = server.url(scheme="https")
        assert await fetcher.fetch(url, tenant="t", seconds=5) == IMAGE
        with pytest.raises(ImageUrlFailedError):
            await fetcher.fetch(
                server.url(scheme="https", host="other.test"), tenant="t", seconds=5
            )
        assert server.server_names == ["images.test", "other.test"]
        server.handler = answering(moved(server.url("/plain")))
        with pytest.raises(ImageUrlRefusedError, match="from https to http"):
            await fetcher.fetch(url, tenant="t", seconds=5)
    assert len(server.heads) == 2


async def _drip(_, writer, *, pause=0.05, piece=b"x"):
    while True:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(pause)


async def _slow_body(reader, writer):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 9999\r\n\r\n")
    await _drip(reader, writer)


async def _slow_head(reader, writer):
    writer.write(b"HTTP/1.1 200 OK\r\nX: ")
    await _drip(reader, writer)


async def _many_continues(reader, writer):
    await _drip(reader, writer, pause=0, piece=b"HTTP/1.1 100 Continue\r\n\r\n")


async def _many_headers(reader, writer):
    writer.write(b"HTTP/1.1 200 OK\r\n")
    await _drip(reader, writer, pause=0, piece=b"X: y\r\n")


async def _silent(_, __):
    await asyncio.sleep(3600)


@pytest.mark.parametrize(
    ("handler", "why"),
    [
        (_slow_body, "did not arrive within"),
        # half of the time is for the head
        (_slow_head, "does not answer"),
        (_many_continues, "does not answer"),
        (_many_headers, "does not answer"),
        (_silent, "does not answer"),
    ],
)
async def test_a_server_that_is_slow_on_purpose_is_given_up(handler, why):
    async with (
        asyncio.timeout(60),
        RawServer(handler).running() as server,
        fetching(server, image_url_timeout_seconds=0.4) as fetcher,
    ):
        with pytest.raises(ImageUrlFailedError, match=why):
            await fetcher.fetch(server.url(), tenant="t", seconds=60)


async def test_the_deadline_of_the_request_counts_if_it_is_earlier():
    async with (
        asyncio.timeout(60),
        RawServer(_silent).running() as server,
        fetching(server, image_url_timeout_seconds=1000) as fetcher,
    ):
        with pytest.raises(ImageUrlFailedError):
            await fetcher.fetch(server.url(), tenant="t", seconds=0.2)


async def _endless(_, writer):
    writer.write(
        b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    while True:
        writer.write(b"1000\r\n" + b"x" * 0x1000 + b"\r\n")
        await writer.drain()


async def test_a_body_without_end_is_cut_off():
    async with (
        asyncio.timeout(60),
        RawServer(_endless).running() as server,
        fetching(server, max_image_bytes=100_000) as fetcher,
    ):
        with pytest.raises(ImageTooLargeError):
            await fetcher.fetch(server.url(), tenant="t", seconds=15)


async def test_a_body_that_is_announced_as_too_large_is_not_read():
    head = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 100001\r\n\r\n"
    async with (
        RawServer(answering(head)).running() as server,
        fetching(server, max_image_bytes=100_000) as fetcher,
    ):
        with pytest.raises(ImageTooLargeError):
            await fetcher.fetch(server.url(), tenant="t", seconds=15)


BOMB = gzip.compress(bytes(50_000_000))
UNUSABLE = {
    "gzip": (page(BOMB, "Content-Encoding: gzip"), ImageUrlFailedError),
    "gzip twice": (page(BOMB, "Content-Encoding: gzip, gzip"), ImageUrlFailedError),
    "brotli": (page(b"x", "Content-Encoding: br"), ImageUrlFailedError),
    "cut off": (page(IMAGE).replace(b"Length: 16", b"Length: 99"), ImageUrlFailedError),
    "two lengths": (page(IMAGE, "Content-Length: 3"), ImageUrlFailedError),
    "negative length": (page(IMAGE).replace(b"Length: 16", b"Length: -1"), ImageUrlFailedError),
    "a bad chunk": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n",
        ImageUrlFailedError,
    ),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", ImageUrlFailedError),
    "nothing": (b"", ImageUrlFailedError),
    "a long header": (page(IMAGE, "X: " + "y" * 20_000), ImageUrlFailedError),
    "an upgrade": (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        ImageUrlFailedError,
    ),
    "an error": (page(b"secret", status="500 Oops"), ImageUrlFailedError),
    "not found": (page(b"", status="404 Not Found"), ImageUrlFailedError),
    "a part": (page(IMAGE, status="206 Partial Content"), ImageUrlFailedError),
    "a redirect to nowhere": (page(b"", status="302 Found"), ImageUrlFailedError),
    "a page": (page(b"<html>", kind="text/html"), UnsupportedMediaTypeError),
    "JSON": (page(b'{"AccessKeyId": "x"}', kind="application/json"), UnsupportedMediaTypeError),
}


@pytest.mark.parametrize("case", UNUSABLE)
async def test_an_answer_that_is_of_no_use(case):
    answer, error = UNUSABLE[case]
    async with RawServer(answering(answer)).running() as server, fetching(server) as fetcher:
        with pytest.raises(error) as refused:
            await fetcher.fetch(server.url(), tenant="t", seconds=15)
    for hidden in ("secret", "AccessKeyId", "SSH", OPEN):
        assert hidden not in refused.value.detail


@pytest.mark.parametrize("kind", ["image/jpeg", "IMAGE/PNG; q=1", "binary/octet-stream"])
async def test_types_that_an_image_may_have(kind):
    async with (
        RawServer(answering(page(IMAGE, kind=kind))).running() as server,
        fetching(server) as fetcher,
    ):
        assert await fetcher.fetch(server.url(), tenant="t", seconds=15) == IMAGE


async def test_slow_servers_of_a_tenant_leave_room_for_others():
    async def by_path(reader, writer):
        if b"/slow" in server.heads[-1]:
            await _silent(reader, writer)
        writer.write(page(IMAGE))

    async with (
        asyncio.timeout(60),
        RawServer(by_path).running() as server,
        fetching(server, image_url_timeout_seconds=25.0) as fetcher,
    ):
        slow = [
            asyncio.create_task(fetcher.fetch(server.url("/slow"), tenant="a", seconds=25))
            for _ in range(60)
        ]
        while len(server.heads) < 16:
            await asyncio.sleep(0.01)
        assert await fetcher.fetch(server.url(), tenant="b", seconds=5) == IMAGE
        assert len(server.heads) == 17
        for task in slow:
            task.cancel()
        await asyncio.wait(slow)
