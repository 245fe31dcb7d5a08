"""The routes of the OpenAPI document and of the page that shows it, without other hosts."""

from importlib.metadata import distribution
from pathlib import Path
from typing import Final

from aiohttp import web

from gateway.api.auth import Permission
from gateway.api.call import Call
from gateway.api.context import DOCUMENT
from gateway.api.route import Route
from gateway.api.shapes import NoOptions
from gateway.errors import NotFoundError

WEB: Final = Path(__file__).resolve().parent.parent / "web"
_SWAGGER_PACKAGE: Final = "swagger-ui-py"
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; font-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def _assets() -> dict[str, Path]:
    """List the files of the page by name, without importing the package."""
    root = Path(str(distribution(_SWAGGER_PACKAGE).locate_file("swagger_ui/static")))
    names = ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png")
    return {name: root / name for name in names} | {"docs.js": WEB / "docs.js"}


ASSETS: Final = _assets()


async def document(call: Call[NoOptions, NoOptions]) -> web.Response:
    """Serve the OpenAPI document."""
    return web.Response(body=call.request.app[DOCUMENT], content_type="application/json")


async def page(call: Call[NoOptions, NoOptions]) -> web.FileResponse:
    """Serve the page."""
    return web.FileResponse(WEB / "docs.html", headers={"Content-Security-Policy": _POLICY})


async def asset(call: Call[NoOptions, NoOptions]) -> web.FileResponse:
    """Serve a file of the page."""
    path = ASSETS.get(call.path("name"))
    if path is None:
        raise NotFoundError("there is no such file")
    return web.FileResponse(path, headers={"Cache-Control": "public, max-age=3600"})


async def root(call: Call[NoOptions, NoOptions]) -> web.Response:
    """Redirect to the page."""
    # without it HEAD would have no length
    headers = {"Location": "/api/docs", "Content-Length": "0"}
    return web.Response(status=307, headers=headers)


DOCS_ROUTES: Final = (
    Route(
        method="GET",
        path="/api/openapi.json",
        handler=document,
        permission=Permission.DOCS,
        tag="docs",
        summary="This document",
        description="OpenAPI 3.1.",
        responses={200: None},
        errors=("invalid_request",),
    ),
    Route(
        method="GET",
        path="/api/docs",
        handler=page,
        permission=Permission.DOCS,
        tag="docs",
        summary="A page that shows this document",
        description="Swagger UI, served by the gateway; it loads nothing from other hosts.",
        responses={200: None},
        errors=("invalid_request",),
        media="text/html",
    ),
    Route(
        method="GET",
        path="/api/docs/{name}",
        handler=asset,
        permission=Permission.DOCS,
        tag="docs",
        summary="A file of that page",
        description="Scripts, styles and the icon.",
        responses={200: None},
        options=None,
        errors=("not_found",),
        media="*/*",
    ),
    Route(
        method="GET",
        path="/",
        handler=root,
        permission=Permission.PUBLIC,
        tag="docs",
        summary="Start here",
        description="Redirects to `/api/docs`.",
        responses={307: None},
        errors=("invalid_request",),
    ),
)
