"""The OpenAPI document and the page that shows it, which needs no other host."""

from importlib.metadata import distribution
from pathlib import Path
from typing import Final

from aiohttp import web

from gateway.api.context import DOCUMENT, read_options
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
    """List the page's files by name; the package's Python code is not imported."""
    root = Path(str(distribution(_SWAGGER_PACKAGE).locate_file("swagger_ui/static")))
    names = ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png")
    return {name: root / name for name in names} | {"docs.js": WEB / "docs.js"}


ASSETS: Final = _assets()


async def document(request: web.Request) -> web.Response:
    """Serve the OpenAPI document."""
    read_options(request, NoOptions)
    return web.Response(body=request.app[DOCUMENT], content_type="application/json")


async def page(request: web.Request) -> web.FileResponse:
    """Serve the page."""
    read_options(request, NoOptions)
    return web.FileResponse(WEB / "docs.html", headers={"Content-Security-Policy": _POLICY})


async def asset(request: web.Request) -> web.FileResponse:
    """Serve a file of the page."""
    path = ASSETS.get(request.match_info["name"])
    if path is None:
        raise NotFoundError("no such file")
    return web.FileResponse(path, headers={"Cache-Control": "public, max-age=3600"})


async def root(request: web.Request) -> web.Response:
    """Lead to the page."""
    read_options(request, NoOptions)
    # HEAD would leave out the length of nothing
    headers = {"Location": "/api/docs", "Content-Length": "0"}
    return web.Response(status=307, headers=headers)
