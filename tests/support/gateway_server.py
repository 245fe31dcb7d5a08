"""The gateway as it runs in production, on a free port of this process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import ClientSession, FormData, web

from gateway.app import create_app
from gateway.inference.base import Inference
from gateway.settings import Settings


@asynccontextmanager
async def serving(inference: Inference, **settings) -> AsyncIterator[ClientSession]:
    """Serve with this engine; yields a client session whose base is the server."""

    async def open_inference(_: Settings) -> Inference:
        return inference

    app = create_app(Settings(**settings), open_inference=open_inference)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        async with ClientSession(f"http://{host}:{port}") as session:
            yield session
    finally:
        await runner.cleanup()


def form(**fields: bytes | str) -> FormData:
    """Build a multipart form: bytes are files, texts are fields."""
    data = FormData(default_to_multipart=True)
    for name, value in fields.items():
        if isinstance(value, bytes):
            data.add_field(name, value, filename=f"{name}.bin")
        else:
            data.add_field(name, value)
    return data
