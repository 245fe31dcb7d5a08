"""Images whose server sends the gateway somewhere else."""

import pytest

from gateway.errors import ImageUrlFailedError, ImageUrlRefusedError
from tests.support.image_urls import (
    CLOSED,
    OPEN,
    Names,
    RawServer,
    answering,
    fetching,
    moved,
    page,
)

IMAGE = b"\x89PNG of the test"


async def test_a_redirect_asks_for_the_address_again():
    names = Names({"images.test": [[OPEN], [CLOSED]]})
    async with (
        RawServer(answering(moved("/b.png"), page(IMAGE))).running() as server,
        fetching(server, names) as fetcher,
    ):
        with pytest.raises(ImageUrlRefusedError):
            await fetcher.fetch(server.url(), tenant="t", seconds=5)
    assert server.connections == [OPEN]


async def test_three_redirects_are_followed_and_no_fourth():
    for number, path in ((3, "/1"), (4, "/1")):
        answers = [moved(f"{path}{each}") for each in range(number)]
        async with (
            RawServer(answering(*answers, page(IMAGE))).running() as server,
            fetching(server) as fetcher,
        ):
            if number == 3:
                assert await fetcher.fetch(server.url(), tenant="t", seconds=5) == IMAGE
            else:
                with pytest.raises(ImageUrlFailedError, match="more than 3 times"):
                    await fetcher.fetch(server.url(), tenant="t", seconds=5)
        assert len(server.connections) == 4


@pytest.mark.parametrize(
    ("location", "code"),
    [
        ("//images.test:{port}/b", None),
        ("b.png#x", None),
        ("?b", None),
        ("http://images.test/other-port", "image_url_failed"),
        ("http://other.test:{port}/", "image_url_refused"),
        ("http://images.test:1/", "image_url_refused"),
        ("http://127.0.0.1:{port}/", "image_url_refused"),
        ("//2130706433:{port}/", "image_url_refused"),
        ("http://me:secret@images.test:{port}/", "image_url_refused"),
        ("file:///etc/passwd", "image_url_refused"),
        ("gopher://images.test:{port}/", "image_url_refused"),
        ("data:image/png;base64,AAAA", "image_url_refused"),
        ("http://[", "image_url_refused"),
        ("http://images.test:{port}\\@127.0.0.1/", "image_url_refused"),
    ],
)
async def test_where_a_redirect_may_lead(location, code):
    async with RawServer(answering(page(b""))).running() as server:
        target = location.format(port=server.port)
        server.handler = answering(moved(target), page(IMAGE))
        ports = f"{server.port},80"
        async with fetching(server, image_url_ports=ports) as fetcher:
            fetched = fetcher.fetch(server.url(), tenant="t", seconds=5)
            if code is None:
                assert await fetched == IMAGE
                return
            with pytest.raises((ImageUrlRefusedError, ImageUrlFailedError)) as error:
                await fetched
            assert error.value.code == code
            assert "secret" not in error.value.detail
    assert len(server.connections) == 1
