"""Which URLs of images the settings allow."""

import pytest

from gateway.errors import ConfigurationError, ImageUrlRefusedError
from gateway.outbound.images import ImageRules
from gateway.settings import Settings
from tests.support.image_urls import CLOSED, Names, RawServer, answering, fetching, page


@pytest.mark.parametrize(
    ("host", "fetched"),
    [
        ("images.test", True),
        ("cdn.wild.test", True),
        ("a.b.wild.test", True),
        ("xn--bcher-kva.test", True),
        ("bücher.test", True),
        ("wild.test", False),
        ("evilwild.test", False),
        ("images.test.evil.test", False),
        ("127.0.0.1", False),
    ],
)
def test_listed_hosts(host, fetched):
    rules = ImageRules.of(
        Settings(image_urls="listed", image_url_hosts="Images.test, *.wild.test,Bücher.test")
    )
    if fetched:
        assert rules.check(f"https://{host}/a.png").scheme == "https"
    else:
        with pytest.raises(ImageUrlRefusedError, match="host of the URL"):
            rules.check(f"https://{host}/a.png")


async def test_a_list_of_hosts_opens_no_inner_address():
    names = Names({"images.test": [[CLOSED]]})
    async with RawServer(answering(page(b""))).running() as server:
        listed = {"image_urls": "listed", "image_url_hosts": "images.test,127.0.0.1"}
        async with fetching(server, names, **listed) as fetcher:
            for host in ("images.test", "127.0.0.1"):
                with pytest.raises(ImageUrlRefusedError):
                    await fetcher.fetch(server.url(host=host), tenant="t", seconds=5)
    assert server.connections == []


def test_off_is_the_default():
    with pytest.raises(ImageUrlRefusedError, match="AURUM_IMAGE_URLS"):
        ImageRules.of(Settings()).check("https://images.test/a.png")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image_url_hosts", "https://a.test"),
        ("image_url_hosts", "*"),
        ("image_url_hosts", "*.127.0.0.1"),
        ("image_url_hosts", "a.*.test"),
        ("image_url_hosts", "a.test:80"),
        ("image_url_ports", "80;443"),
        ("image_url_ports", ""),
        ("image_url_ports", "0"),
        ("image_url_ports", "70000"),
        ("image_url_networks", "127.0.0.0/8"),
        ("image_url_networks", "0.0.0.0/0"),
        ("image_url_networks", "169.254.0.0/16"),
        ("image_url_networks", "10.0.0.1/8"),
        ("image_url_networks", "intranet"),
    ],
)
async def test_settings_that_cannot_be_used(name, value):
    server = RawServer(answering(b""))
    with pytest.raises(ConfigurationError, match=f"AURUM_{name.upper()}"):
        async with fetching(server, **{"image_url_ports": "80", name: value}):
            pass


async def test_a_list_needs_hosts():
    with pytest.raises(ConfigurationError, match="AURUM_IMAGE_URL_HOSTS"):
        ImageRules.of(Settings(image_urls="listed"))
