"""Lists of hosts in settings."""

import re
from collections.abc import Iterable
from ipaddress import ip_network
from typing import Final

from yarl import URL

from gateway.errors import ConfigurationError
from gateway.outbound.addresses import Network, is_private_network, read_address

_WILDCARD: Final = "*."
_HOST: Final = re.compile(r"[a-z0-9._:-]+")


class HostList:
    """Hosts, and with `*.` before them all names below; names may be international."""

    def __init__(self, texts: Iterable[str], *, setting: str) -> None:
        """Read the entries of a setting; raises ConfigurationError that names it."""
        exact: set[str] = set()
        below: set[str] = set()
        for text in texts:
            name = text.removeprefix(_WILDCARD)
            host = ascii_host(name)
            is_name = host is not None and read_address(host) is None
            if host is None or (name != text and not is_name):
                raise ConfigurationError(f"{setting}: {text!r} is not a host or *.host")
            (exact if name == text else below).add(host)
        self._exact = frozenset(exact)
        self._below = frozenset(below)

    def __contains__(self, host: str) -> bool:
        if host in self._exact:
            return True
        # the list is short, the host of a caller may have many labels
        return any(host.endswith(f".{name}") for name in self._below)


def entries(text: str) -> list[str]:
    """Split a setting at its commas."""
    return [each.strip() for each in text.split(",") if each.strip()]


def ascii_host(text: str) -> str | None:
    """Return a host without port in lower-case ASCII; None if it is none."""
    host, port = split_host(text)
    return host if port is None else None


def split_host(text: str) -> tuple[str | None, int | None]:
    """Split `host` or `host:port`; the host is in ASCII, None if it is none."""
    lower = text.lower()
    try:
        parsed = URL(f"//{lower}")
        host, port = parsed.raw_host, parsed.explicit_port
        shown = parsed.host
    except (ValueError, UnicodeError):
        return None, None
    if host is None or shown is None or not _HOST.fullmatch(host):
        return None, None
    end = "" if port is None else f":{port}"
    spellings = {f"{each}{end}" for each in (host, shown, f"[{host}]")}
    return (host, port) if lower in spellings else (None, None)


def read_networks(text: str, *, setting: str) -> tuple[Network, ...]:
    """Read private networks; raises ConfigurationError for any other."""
    networks: list[Network] = []
    for each in entries(text):
        try:
            network = ip_network(each)
        except ValueError as error:
            raise ConfigurationError(f"{setting}: {each!r} is not a network: {error}") from error
        if not is_private_network(network):
            message = f"{setting}: {each} is not within a private network (see docs/security.md)"
            raise ConfigurationError(message)
        networks.append(network)
    return tuple(networks)


def read_ports(text: str, *, setting: str) -> frozenset[int]:
    """Read ports; raises ConfigurationError."""
    ports = entries(text)
    if not ports or not all(each.isascii() and each.isdigit() for each in ports):
        raise ConfigurationError(f"{setting}: {text!r} is not a list of ports")
    numbers = frozenset(int(each) for each in ports)
    if not all(0 < number < 65536 for number in numbers):
        raise ConfigurationError(f"{setting}: a port is a number from 1 to 65535")
    return numbers
