"""Headers of every answer, whatever the route: what a browser may do with it, and no versions."""

from typing import Final

from aiohttp import web

_SERVER: Final = "aurum"
_ALWAYS: Final = {
    "Server": _SERVER,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_UNLESS_THE_ROUTE_SAYS: Final = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    # an answer may be about a person: no copy of it stays on the way
    "Cache-Control": "no-store",
}
_HTTPS_ONLY: Final = "max-age=31536000"
"""For a year, a browser uses this host over TLS only."""


def protect(response: web.StreamResponse, *, secure: bool) -> None:
    """Add the headers before the answer is sent.

    secure: whether the gateway itself speaks TLS on this connection.
    """
    response.headers.update(_ALWAYS)
    for name, value in _UNLESS_THE_ROUTE_SAYS.items():
        response.headers.setdefault(name, value)
    if secure:
        response.headers["Strict-Transport-Security"] = _HTTPS_ONLY


async def add_headers(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Protect an answer; to be called when aiohttp prepares it, also for streams."""
    protect(response, secure=request.secure)
