"""Every spelling of an inner address that we could find: none gets a connection."""

import ipaddress

import pytest

from gateway.errors import ImageUrlRefusedError
from gateway.outbound.images import open_image_fetcher
from gateway.outbound.urls import UrlError, name_of_url, read_url, without_query
from gateway.settings import Settings
from tests.support.image_urls import OPEN, Names, RawServer, answering, fetching, page

TARGETS = ("127.0.0.1", "169.254.169.254")


def full_width(text: str) -> str:
    return "".join(chr(ord(each) + 0xFEE0) if each.isalnum() else each for each in text)


def circled(text: str) -> str:
    digits = "⓪①②③④⑤⑥⑦⑧⑨"
    return "".join(digits[int(each)] if each.isdigit() else each for each in text)


def spellings(target: str) -> dict[str, str]:
    """Return hosts of URLs (with what stands before them) by how they are made."""
    number = int(ipaddress.IPv4Address(target))
    a, b, c, d = (int(each) for each in target.split("."))
    groups = f"{number >> 16:x}:{number & 0xFFFF:x}"
    teredo = number ^ 0xFFFFFFFF
    return {
        "plain": target,
        "one number": f"{number}",
        "one number, octal": f"0{number:o}",
        "one number, hexadecimal": f"0x{number:x}",
        "one number, capital hexadecimal": f"0X{number:X}",
        "one number, many zeros": f"0x{'0' * 20}{number:x}",
        "one number, beyond 32 bits": f"{number + (1 << 32)}",
        "one number, negative": f"-{(1 << 32) - number}",
        "three numbers": f"{a}.{b}.{(c << 8) + d}",
        "two numbers": f"{a}.{(b << 16) + (c << 8) + d}",
        "two numbers, hexadecimal": f"0x{a:x}.0x{(b << 16) + (c << 8) + d:x}",
        "octal": f"0{a:o}.0{b:o}.0{c:o}.0{d:o}",
        "octal with zeros": f"000{a:o}.000{b:o}.000{c:o}.000{d:o}",
        "hexadecimal": f"0x{a:x}.0x{b:x}.0x{c:x}.0x{d:x}",
        "mixed": f"0x{a:x}.0{b:o}.{c}.{d}",
        "mixed, last decimal": f"0{a:o}.{b}.0x{c:x}.{d}",
        "leading zeros": f"{a:03}.{b:03}.{c:03}.{d:03}",
        "numbers beyond 255": f"{a + 256}.{b + 256}.{c + 256}.{d + 256}",
        "five numbers": f"{target}.0",
        "empty number": f"{a}..{c}.{d}",
        "dot at the end": f"{target}.",
        "two dots at the end": f"{target}..",
        "dot at the start": f".{target}",
        "full-width digits": full_width(target),
        "circled digits": circled(target),
        "ideographic dots": target.replace(".", "。"),
        "full-width dots": target.replace(".", "\uff0e"),
        "half-width dots": target.replace(".", "｡"),
        "superscript digits": target.replace("1", "¹").replace("2", "²"),
        "Arabic digits": "".join(chr(0x660 + int(x)) if x.isdigit() else x for x in target),
        "mathematical digits": "".join(chr(0x1D7CE + int(x)) if x.isdigit() else x for x in target),
        "soft hyphen": target.replace(".", ".\u00ad", 1),
        "zero-width space": target.replace(".", ".\u200b", 1),
        "full-width hexadecimal": full_width(f"0x{number:x}"),
        "escaped digits": "".join(f"%{ord(x):02x}" if x.isdigit() else x for x in target),
        "escaped dots": target.replace(".", "%2e"),
        "escaped twice": target.replace(".", "%252e"),
        "brackets": f"[{target}]",
        "mapped": f"[::ffff:{target}]",
        "mapped, hexadecimal": f"[::ffff:{groups}]",
        "mapped, long": f"[0:0:0:0:0:ffff:{groups}]",
        "mapped, longer": f"[0000:0000:0000:0000:0000:FFFF:{target}]",
        "compatible": f"[::{target}]",
        "compatible, hexadecimal": f"[::{groups}]",
        "translated": f"[::ffff:0:{target}]",
        "NAT64": f"[64:ff9b::{target}]",
        "NAT64, hexadecimal": f"[64:ff9b::{groups}]",
        "NAT64 of a network": f"[64:ff9b:1::{groups}]",
        "6to4": f"[2002:{groups}::1]",
        "Teredo server": f"[2001:0:{groups}::1]",
        "Teredo client": f"[2001:0:808:808::{teredo >> 16:x}:{teredo & 0xFFFF:x}]",
        "ISATAP": f"[2606:4700::5efe:{groups}]",
        "zone": f"[::ffff:{target}%1]",
        "escaped zone": f"[::ffff:{target}%25lo]",
        "address of the future": f"[v1.{target}]",
        "user": f"images.test@{target}",
        "user and password": f"images.test:80@{target}",
        "escaped at sign": f"images.test%40{target}",
        "two at signs": f"a@images.test@{target}",
        "backslash": f"{target}\\images.test",
        "backslash and user": f"{target}\\@images.test",
        "blank": f"{target} images.test",
        "tab": f"{target}\t.images.test",
        "new line": f"{target}\r\nHost: images.test",
        "NUL": f"{target}\0.images.test",
        "a name for it": f"{target}.nip.test",
        "a name with capitals": f"{target}.NIP.test",
    }


NAMES = {
    "localhost": "localhost",
    "capitals": "LOCALHOST",
    "full-width": full_width("localhost"),
    "circled letters": "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
    "dot at the end": "localhost.",
    "below it": "a.localhost",
    "loopback": "[::1]",
    "loopback, long": "[0000:0000:0000:0000:0000:0000:0000:0001]",
    "loopback with a zone": "[::1%25lo]",
    "unspecified": "[::]",
    "no host": "0.0.0.0",
    "nought": "0",
    "nought, hexadecimal": "0x0",
    "another loopback": "127.127.127.127",
    "metadata by name": "metadata.google.internal",
    "metadata of AWS": "[fd00:ec2::254]",
    "metadata of Alibaba": "100.100.100.200",
    "metadata of Azure": "168.63.129.16",
    "metadata of Oracle": "192.0.0.192",
    "metadata of AWS tasks": "169.254.170.2",
    "link-local": "[fe80::1]",
    "site-local": "[fec0::1]",
    "broadcast": "255.255.255.255",
}
LITERALS = {
    **{f"{target}, {how}": host for target in TARGETS for how, host in spellings(target).items()},
    **NAMES,
}
INSIDE = {
    **{f"{target}.nip.test": [[target]] for target in TARGETS},
    "localhost": [["127.0.0.1", "::1"]],
    "a.localhost": [["127.0.0.1"]],
    "metadata.google.internal": [["169.254.169.254"]],
}


def test_there_are_many_spellings():
    assert len(LITERALS) >= 150
    assert len(set(LITERALS.values())) >= 150


async def test_no_spelling_of_an_inner_address_gets_a_connection():
    """Through the whole fetcher, with a server that listens on loopback and ports that fit."""
    async with RawServer(answering(page(b"inside"))).running() as server:
        # as in production: no address of this machine is allowed
        settings = Settings(image_urls="public", image_url_ports=f"{server.port},80,443")
        async with open_image_fetcher(settings, lookup=Names(INSIDE)) as fetcher:
            for how, host in LITERALS.items():
                for url in (
                    f"http://{host}:{server.port}/a.png",
                    f"http://{host}/a.png",
                    f"https://{host}/a.png",
                ):
                    with pytest.raises(ImageUrlRefusedError) as refused:
                        await fetcher.fetch(url, tenant="t", seconds=2)
                    # neither the address nor the host is repeated
                    assert "127." not in refused.value.detail, how
                    assert "169." not in refused.value.detail, how
    assert server.connections == []


async def test_no_redirect_to_an_inner_address_is_followed():
    async with (
        RawServer(answering(page(b""))).running() as server,
        fetching(server, Names({**INSIDE, "images.test": [[OPEN]]})) as fetcher,
    ):
        for how, host in LITERALS.items():
            target = f"http://{host}:{server.port}/inside".encode()
            if any(each in target for each in b"\r\n\0"):
                # no header can contain them
                continue
            answer = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: %b\r\n\r\n"
            server.handler = answering(answer % target)
            before = len(server.connections)
            with pytest.raises(ImageUrlRefusedError):
                await fetcher.fetch(server.url(), tenant="t", seconds=2)
            assert server.connections[before:] == [OPEN], how


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("http://example.com/a.jpg", "example.com", 80),
        ("HTTPS://EXAMPLE.com", "example.com", 443),
        ("https://example.com:443/a?b=c#d", "example.com", 443),
        ("https://bücher.example/ä", "xn--bcher-kva.example", 443),
        ("https://a_b.example.com/", "a_b.example.com", 443),
        ("http://93.184.216.34/", "93.184.216.34", 80),
        ("http://[2606:4700::1111]:8080/", "2606:4700::1111", 8080),
        ("https://example.com/a@b:c%20d", "example.com", 443),
    ],
)
def test_usual_urls_are_read(text, host, port):
    url = read_url(text)
    assert (url.raw_host, url.port, url.fragment) == (host, port, "")


@pytest.mark.parametrize(
    "text",
    [
        *("", "example.com/a.jpg", "//example.com/", "http:/example.com/", "http:example.com"),
        *("ftp://example.com/", "file:///etc/passwd", "gopher://example.com/", "data:,x"),
        *("http://", "http:///a", "http://:80/", "http://?a", "http://#a", "http://example.com:0/"),
        *("http://example.com:99999/", "http://example.com:x/", "http://exa mple.com/"),
        *("http://example..com/", "http://-example.com/", "http://example.com-/", "http://*.com/"),
        *("http://[::1/", "http://::1/", "http://[example.com]/", "http://a.1/", "http://a.0x7/"),
        "http://example.com/" + "a" * 2000,
        f"http://{'a' * 64}.com/",
        "http://" + ".".join(["a" * 60] * 5) + "/",
    ],
)
def test_what_is_no_url_is_refused(text):
    with pytest.raises(UrlError):
        read_url(text)


def test_logs_and_names_show_no_query():
    text = "https://images.example.com/people/Ada%20L/1.jpg?signature=secret#x"
    shown = without_query(read_url(text))
    assert shown == "https://images.example.com/people/Ada%20L/1.jpg"
    assert name_of_url(text) == "images.example.com/people/Ada L/1.jpg"
    assert name_of_url("https://images.example.com") == "images.example.com"
    assert name_of_url("nonsense") is None
