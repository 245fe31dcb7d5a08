"""Which web pages may call the gateway from a browser, and under which names it is reached."""

import re
from collections.abc import Iterator
from typing import Final

from yarl import URL

from gateway.errors import ConfigurationError
from gateway.security.hosts import is_loopback

_ORIGIN: Final = re.compile(r"https?://[^/?#@*\s]+", re.ASCII)
_HOST: Final = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\[\]:/?#@*\s]+)(:[0-9]{1,5})?", re.ASCII)
_EVERY_ADDRESS: Final = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - compared, not bound


def parse_origins(text: str) -> frozenset[str]:
    """Read origins separated by commas, as browsers write them: `https://app.example.com:8443`.

    Raises ConfigurationError for anything else, also for `*` and `null`: a page that is not named
    gets no access.
    """
    return frozenset(_origin(each) for each in _listed(text))


def _origin(text: str) -> str:
    if _ORIGIN.fullmatch(text):
        try:
            url = URL(text)
            if url.host:
                return str(url.origin())
        except ValueError:
            pass
    message = (
        f"AURUM_CORS_ORIGINS: {text!r} is no origin; write each as scheme, host and port, "
        "https://app.example.com for example"
    )
    raise ConfigurationError(message)


def parse_hosts(text: str) -> frozenset[str]:
    """Read host names separated by commas, without ports; raises ConfigurationError."""
    names = set()
    for each in _listed(text):
        name, port = split_host(each)
        if name is None or port:
            message = f"AURUM_ALLOWED_HOSTS: {each!r} is no host name"
            raise ConfigurationError(message)
        names.add(name)
    return frozenset(names)


def split_host(text: str) -> tuple[str | None, str]:
    """Split a `Host` into its name in lower case and its port; None if it is not one."""
    found = _HOST.fullmatch(text.strip())
    if found is None:
        return None, ""
    return found[1].strip("[]").rstrip(".").lower(), (found[2] or "")[1:]


class HostNames:
    """The names under which callers may reach the gateway; all of them if it asks for keys.

    A page of `evil.example` may have its name point to 127.0.0.1 a moment after it was loaded (DNS
    rebinding). Its requests then come from the gateway's own origin, but name `evil.example`.
    """

    def __init__(self, *, own: str, more: frozenset[str], loopback_only: bool) -> None:
        """Allow the names of this machine's loopback, the own one, and `more`.

        loopback_only: nobody is asked who he is. Otherwise names are checked only if `more` says
        which ones.
        """
        self._checks = loopback_only or bool(more)
        self._named = more | ({own.lower()} - _EVERY_ADDRESS)

    def allow(self, host: str | None) -> bool:
        """Whether a request with this `Host` may be answered; browsers always send one."""
        if host is None or not self._checks:
            return True
        name, _ = split_host(host)
        return name is not None and (name in self._named or is_loopback(name))


def is_same_origin(origin: str, host: str | None) -> bool:
    """Whether a page of this origin was loaded from the host that it now asks."""
    return host is not None and origin.partition("://")[2].lower() == host.strip().lower()


def _listed(text: str) -> Iterator[str]:
    return (each.strip() for each in text.split(",") if each.strip())
