"""Where webhooks may go, how they are signed, and when a failed one is tried again."""

import hashlib
import hmac
import random
import re
from dataclasses import dataclass
from typing import Final

from yarl import URL

from gateway.errors import ConfigurationError, ForbiddenError, InvalidRequestError
from gateway.settings import Settings

MAX_URL_LENGTH: Final = 2000
TIMESTAMP_HEADER: Final = "Aurum-Timestamp"
SIGNATURE_HEADER: Final = "Aurum-Signature"
DELIVERY_HEADER: Final = "Aurum-Delivery"
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_HOST: Final = re.compile(r"[a-z0-9._:-]+")
_MINUTE: Final = 60.0
_HOUR: Final = 3600.0
RETRY_SECONDS: Final = (
    *(5.0, 30.0, 2 * _MINUTE, 10 * _MINUTE, 30 * _MINUTE),
    *(_HOUR, 2 * _HOUR, 4 * _HOUR, 8 * _HOUR, 8 * _HOUR),
)
"""Waits after the first, second, ... failed attempt: a day in all."""
_JITTER: Final = 0.1
"""Share of a wait by which it varies, so that many deliveries do not come at once."""


@dataclass(frozen=True, slots=True)
class WebhookPolicy:
    """Allowed receivers, as (host, port); port None allows every port."""

    receivers: frozenset[tuple[str, int | None]]
    secret: str

    @classmethod
    def of(cls, settings: Settings) -> "WebhookPolicy":
        """Read the settings; raises ConfigurationError that names the variable."""
        receivers = frozenset(
            _receiver(text.strip()) for text in settings.webhook_hosts.split(",") if text.strip()
        )
        secret = settings.webhook_secret
        if receivers and secret is None:
            raise ConfigurationError("AURUM_WEBHOOK_HOSTS needs AURUM_WEBHOOK_SECRET")
        return cls(receivers, "" if secret is None else secret.get_secret_value())

    def check(self, url: str) -> str:
        """Return a URL to which webhooks may be sent.

        Raises:
            ForbiddenError: the service sends no webhooks, or not to this host.
            InvalidRequestError: no such URL, or one that is not encrypted.

        """
        if not self.receivers:
            raise ForbiddenError(
                "this service sends no webhooks; its operator can set AURUM_WEBHOOK_HOSTS"
            )
        host, parsed = _parse(url)
        if not {(host, None), (host, parsed.port)} & self.receivers:
            raise ForbiddenError(f"'webhook': the host {host[:100]} is not allowed")
        if parsed.scheme != "https" and host not in _LOOPBACK:
            raise InvalidRequestError("'webhook' must begin with https://")
        return url

    def allows(self, url: str) -> bool:
        """Whether the settings of today allow a URL that was accepted before."""
        try:
            self.check(url)
        except (ForbiddenError, InvalidRequestError):
            return False
        return True


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """Return the signature of a delivery: HMAC-SHA-256 of `timestamp`, a dot and the body."""
    message = timestamp.encode() + b"." + body
    return "v1=" + hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


def retry_delay(attempts: int) -> float | None:
    """Return the wait after so many failed attempts (from 1); None after the last one."""
    if attempts > len(RETRY_SECONDS):
        return None
    return RETRY_SECONDS[attempts - 1] * random.uniform(1 - _JITTER, 1 + _JITTER)


def _parse(url: str) -> tuple[str, URL]:
    if len(url) > MAX_URL_LENGTH:
        raise InvalidRequestError(f"'webhook' is longer than {MAX_URL_LENGTH} characters")
    if not url.isprintable() or " " in url:
        raise InvalidRequestError("'webhook' contains spaces or control characters")
    try:
        parsed = URL(url)
    except ValueError as error:
        raise InvalidRequestError("'webhook' is not a URL") from error
    if parsed.scheme not in ("http", "https") or parsed.host is None:
        raise InvalidRequestError("'webhook' must be a URL like https://host/path")
    if parsed.user is not None or parsed.password is not None or parsed.fragment:
        raise InvalidRequestError("'webhook' must contain neither credentials nor a fragment")
    return parsed.host.lower(), parsed


def _spellings(host: str, port: int | None) -> tuple[str, str]:
    end = "" if port is None else f":{port}"
    return f"{host}{end}", f"[{host}]{end}"


def _receiver(text: str) -> tuple[str, int | None]:
    try:
        parsed = URL(f"//{text}".lower())
        host, port = parsed.host, parsed.explicit_port
    except ValueError:
        host, port = None, None
    if host is None or not _HOST.fullmatch(host) or text.lower() not in _spellings(host, port):
        raise ConfigurationError(f"AURUM_WEBHOOK_HOSTS: {text!r} is not a host or host:port")
    return host, port
