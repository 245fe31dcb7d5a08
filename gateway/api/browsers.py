"""What browsers may do: which pages call the gateway, and what they may read (CORS).

Programs send no `Origin` and are not concerned. A page whose origin is listed in
AURUM_CORS_ORIGINS may call every route and read every answer; credentials are keys in headers, and
cookies are never asked for. While nobody is asked for a key, requests of all other pages are
refused: otherwise any page that an operator visits could use the gateway on his machine.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Self

from aiohttp import web

from gateway.api.idempotency import KEY_HEADER as IDEMPOTENCY_KEY
from gateway.api.idempotency import REPLAYED_HEADER
from gateway.errors import ForbiddenError
from gateway.kserve.upstream import HEAD_BYTES
from gateway.security.credentials import KEY_HEADER
from gateway.security.origins import HostNames, is_same_origin, parse_hosts, parse_origins
from gateway.security.roles import Permission
from gateway.settings import Settings

_OPEN_TO_LINKS: Final = frozenset({Permission.PUBLIC, Permission.DOCS})
"""Routes that any page may link to: health and documentation."""
_PREFLIGHT_SECONDS: Final = 600
_REQUEST_HEADERS: Final = ", ".join(
    (
        "Authorization",
        "Content-Type",
        IDEMPOTENCY_KEY,
        HEAD_BYTES,
        "Last-Event-ID",
        KEY_HEADER,
        "X-Request-ID",
    )
)
_READABLE_HEADERS: Final = ", ".join(
    (
        REPLAYED_HEADER,
        HEAD_BYTES,
        "Location",
        "RateLimit",
        "RateLimit-Policy",
        "Retry-After",
        "X-Request-ID",
    )
)


@dataclass(frozen=True, slots=True)
class Browsers:
    """What the settings say about pages."""

    origins: frozenset[str]
    hosts: HostNames
    refuse_others: bool
    """Whether requests of pages that are not listed are refused, not only kept from reading."""

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Read the settings; raises ConfigurationError."""
        return cls(
            origins=parse_origins(settings.cors_origins),
            hosts=HostNames(
                own=settings.host,
                more=parse_hosts(settings.allowed_hosts),
                loopback_only=settings.authentication == "off",
            ),
            refuse_others=settings.authentication != "on",
        )

    def check_host(self, request: web.BaseRequest) -> None:
        """Raise ForbiddenError if the request names a host that the gateway is not."""
        host = request.headers.get("Host")
        if not self.hosts.allow(host):
            message = (
                f"this gateway is not {host!r:.100}; AURUM_ALLOWED_HOSTS lists further names "
                "under which it may be reached"
            )
            raise ForbiddenError(message)

    def check_page(self, request: web.BaseRequest, permission: Permission) -> None:
        """Raise ForbiddenError for a request that a page of elsewhere makes and may not make."""
        if not self.refuse_others or permission in _OPEN_TO_LINKS:
            return
        origins = request.headers.getall("Origin", [])
        host = request.headers.get("Host")
        known = all(each in self.origins or is_same_origin(each, host) for each in origins)
        elsewhere = not origins and request.headers.get("Sec-Fetch-Site") == "cross-site"
        if not known or elsewhere or len(origins) > 1:
            message = (
                f"this request comes from a web page of {', '.join(origins) or 'another site'}, "
                "and nobody is asked for a key; AURUM_CORS_ORIGINS lists the origins whose pages "
                "may call"
            )
            raise ForbiddenError(message)

    def add_headers(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """Let a page of a listed origin read the answer."""
        if not self.origins:
            return
        # a cache on the way must not give one page's answer to another
        response.headers.add("Vary", "Origin")
        origin = request.headers.get("Origin")
        if origin in self.origins:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = _READABLE_HEADERS

    def answer_preflight(
        self, request: web.BaseRequest, response: web.StreamResponse, methods: Collection[str]
    ) -> None:
        """Say what a page of a listed origin may send to a path with these methods."""
        wanted = request.headers.get("Access-Control-Request-Method")
        if request.headers.get("Origin") not in self.origins or wanted not in methods:
            return
        response.headers["Access-Control-Allow-Methods"] = ", ".join(sorted(methods))
        response.headers["Access-Control-Allow-Headers"] = _REQUEST_HEADERS
        response.headers["Access-Control-Max-Age"] = str(_PREFLIGHT_SECONDS)
        response.headers.add("Vary", "Access-Control-Request-Method")


BROWSERS: Final = web.AppKey("browsers", Browsers)
