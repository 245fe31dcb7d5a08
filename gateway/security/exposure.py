"""Refuses to serve everybody on an address that others reach."""

from typing import Final, Protocol

from gateway.errors import ConfigurationError
from gateway.security.hosts import is_loopback

OPEN_WARNING: Final = (
    "authentication is off: every program on this machine may do everything "
    "(AURUM_AUTHENTICATION=on asks for API keys)"
)
PROXY_WARNING: Final = (
    "authentication is off on an address that others may reach: whoever reaches it without the "
    "proxy may do everything"
)


class Exposure(Protocol):
    """The settings that decide who reaches the gateway, and who may do what."""

    @property
    def host(self) -> str:
        """Address that it binds."""

    @property
    def authentication(self) -> str:
        """`on`, `off` or `proxy`."""


def check_exposure(settings: Exposure) -> None:
    """Raise ConfigurationError if everybody could do everything from another machine."""
    if settings.authentication == "off" and not is_loopback(settings.host):
        message = (
            f"AURUM_HOST: {settings.host or 'all addresses'} can be reached from other machines, "
            "and authentication is off. Set AURUM_AUTHENTICATION=on and make a key with "
            "`aurum keys create --name operator --role admin`; or AURUM_AUTHENTICATION=proxy, if a "
            "proxy in front of the gateway authenticates its callers"
        )
        raise ConfigurationError(message)


def warning(settings: Exposure) -> str | None:
    """Say loudly what is open; None while authentication is on."""
    if settings.authentication == "on":
        return None
    return OPEN_WARNING if is_loopback(settings.host) else PROXY_WARNING
