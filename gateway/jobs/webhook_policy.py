"""Where webhooks may go, how they are signed, and when a failed one is tried again."""

import base64
import hashlib
import hmac
import random
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from yarl import URL

from gateway.errors import (
    ConfigurationError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
)
from gateway.outbound.hosts import entries, split_host
from gateway.outbound.policy import is_this_machine
from gateway.settings import Settings

MAX_URL_LENGTH: Final = 2000
TIMESTAMP_HEADER: Final = "Aurum-Timestamp"
SIGNATURE_HEADER: Final = "Aurum-Signature"
DELIVERY_HEADER: Final = "Aurum-Delivery"
_SECRET_PREFIX: Final = "whs_"  # noqa: S105 - what secrets begin with
_SECRET_BYTES: Final = 32
_PURPOSE: Final = b"aurum webhooks of a tenant\0"
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
    secret: str = field(repr=False)
    """What the secrets of the tenants are derived from."""

    @classmethod
    def of(cls, settings: Settings) -> "WebhookPolicy":
        """Read the settings; raises ConfigurationError that names the variable."""
        receivers = frozenset(_receiver(text) for text in entries(settings.webhook_hosts))
        secret = settings.webhook_secret
        if receivers and secret is None:
            raise ConfigurationError("AURUM_WEBHOOK_HOSTS needs AURUM_WEBHOOK_SECRET")
        return cls(receivers, "" if secret is None else secret.get_secret_value())

    def check(self, url: str) -> str:
        """Return a URL to which webhooks may be sent, in its one spelling.

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
        if parsed.scheme != "https" and not is_this_machine(host):
            raise InvalidRequestError("'webhook' must begin with https://")
        return str(parsed)

    def allows(self, url: str) -> bool:
        """Whether the settings of today allow a URL that was accepted before."""
        try:
            self.check(url)
        except (ForbiddenError, InvalidRequestError):
            return False
        return True

    def secret_of(self, tenant: str) -> str:
        """Return the secret that signs the webhooks of a tenant; it tells nothing of any other.

        Raises NotFoundError if the service sends no webhooks.
        """
        if not self.secret:
            raise NotFoundError("this service sends no webhooks, so it has no secret for them")
        return tenant_secret(self.secret, tenant)


def tenant_secret(secret: str, tenant: str) -> str:
    """Derive the secret of a tenant (HKDF-SHA-256) from the one of the service."""
    derived = HKDF(
        algorithm=hashes.SHA256(),
        length=_SECRET_BYTES,
        salt=None,
        info=_PURPOSE + tenant.encode(),
    ).derive(secret.encode())
    return _SECRET_PREFIX + base64.urlsafe_b64encode(derived).rstrip(b"=").decode()


def origin_of(url: str) -> str:
    """Return scheme, host and port of a URL that was checked."""
    return str(URL(url).origin())


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """Return the signature of a delivery: HMAC-SHA-256 of `timestamp`, a dot and the body."""
    message = timestamp.encode() + b"." + body
    return "v2=" + hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


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
    if parsed.scheme not in ("http", "https") or parsed.raw_host is None:
        raise InvalidRequestError("'webhook' must be a URL like https://host/path")
    if parsed.user is not None or parsed.password is not None or parsed.fragment:
        raise InvalidRequestError("'webhook' must contain neither credentials nor a fragment")
    return parsed.raw_host.lower(), parsed


def _receiver(text: str) -> tuple[str, int | None]:
    host, port = split_host(text)
    if host is None:
        raise ConfigurationError(f"AURUM_WEBHOOK_HOSTS: {text!r} is not a host or host:port")
    return host, port
