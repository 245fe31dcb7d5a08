"""Reads URLs that a caller chose: one spelling, and nothing that another reader reads otherwise."""

import re
from typing import Final

from yarl import URL

from gateway.outbound.addresses import read_address

MAX_URL_CHARACTERS: Final = 2000
_AUTHORITY: Final = re.compile(r"https?://([^/?#]*)", re.IGNORECASE)
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_MAX_HOST: Final = 253
_BAD_AUTHORITY: Final = frozenset("@%\\ ")
"""Credentials, escapes and what some readers take for a slash."""


class UrlError(ValueError):
    """A URL that is not fetched; the text says why and does not quote it."""


def read_url(text: str) -> URL:
    """Read an http or https URL, without its fragment.

    Hosts are names or addresses in their usual spelling: the many others of the same address
    (127.1, 0x7f.0.0.1, 2130706433, [::1%25lo]) are refused. The host is in ASCII afterwards
    (`raw_host`); names have no dot at their end.

    Raises UrlError.
    """
    if len(text) > MAX_URL_CHARACTERS:
        raise UrlError(f"it is longer than {MAX_URL_CHARACTERS} characters")
    if not text.isprintable() or " " in text or "\\" in text:
        raise UrlError("it contains spaces, backslashes or control characters")
    found = _AUTHORITY.match(text)
    if found is None:
        raise UrlError("it must begin with http:// or https://")
    authority = found.group(1)
    if _BAD_AUTHORITY & set(authority):
        raise UrlError("its host contains credentials or escapes")
    try:
        url = URL(text).with_fragment(None)
        host, port = url.raw_host, url.port
    except (ValueError, UnicodeError) as error:
        raise UrlError("it is not a URL") from error
    if not host or not port or url.raw_user is not None or url.raw_password is not None:
        raise UrlError("it is not a URL with a host")
    refusal = _why_no_host(host, is_bracketed=authority.startswith("["))
    if refusal is not None:
        raise UrlError(refusal)
    return url


def without_query(url: URL) -> str:
    """Write a URL for logs: queries often contain a signature."""
    return str(url.with_query(None).with_fragment(None))


def name_of_url(text: str) -> str | None:
    """Name an image by its URL: host and path, so that folders and files are seen; None if bad."""
    try:
        url = read_url(text)
    except UrlError:
        return None
    return f"{url.host}{url.path}".rstrip("/")


def _why_no_host(host: str, *, is_bracketed: bool) -> str | None:
    """Say why a host is not accepted; None if it is."""
    if is_bracketed:
        address = read_address(host)
        if address is None or address.version == 4 or "%" in host:
            return "its host is not an IPv6 address"
        return None
    labels = host.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        # every reader takes this for an IPv4 address, by rules of its own
        return None if read_address(host) is not None else "its host is an unusual IPv4 address"
    if len(host) > _MAX_HOST or not all(_LABEL.fullmatch(label) for label in labels):
        return "its host is not a name"
    return None
