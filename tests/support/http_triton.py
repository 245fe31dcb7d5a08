"""A Triton over real HTTP whose answers are written down: for what the gateway sends and says."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

HEAD = "Inference-Header-Content-Length"


@dataclass
class Script:
    """What the server does; tests change it while it runs.

    failures: status and text of the next answers. drop: how many calls end without an answer.
    infers: JSON and tensors of each inference that came, headers beside it.
    """

    failures: list[tuple[int, str]] = field(default_factory=list)
    drop: int = 0
    seconds: float = 0
    answer: bytes = b'{"model_name":"m","model_version":"1","outputs":[]}'
    head_bytes: int | None = None
    paths: list[str] = field(default_factory=list)
    infers: list[tuple[dict[str, Any], bytes]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    called: asyncio.Event = field(default_factory=asyncio.Event)
    finished: int = 0
    cancelled: int = 0


async def _answer(script: Script, request: web.Request) -> web.StreamResponse:
    script.paths.append(f"{request.method} {request.path}")
    body = await request.read()
    if request.path.endswith("/infer"):
        head = int(request.headers[HEAD])
        script.infers.append((json.loads(body[:head]), body[head:]))
        script.headers.append(dict(request.headers))
        script.called.set()
    try:
        await asyncio.sleep(script.seconds)
    except asyncio.CancelledError:
        script.cancelled += 1
        raise
    script.finished += 1
    if script.drop:
        script.drop -= 1
        if request.transport is not None:
            request.transport.close()
        return web.Response()
    if script.failures:
        status, text = script.failures.pop(0)
        return web.json_response({"error": text}, status=status)
    headers = {} if script.head_bytes is None else {HEAD: str(script.head_bytes)}
    # what stands between two neighbours only, and what gives the server away
    headers |= {"Keep-Alive": "timeout=5", "Server": "triton", "X-Secret": "path"}
    return web.Response(body=script.answer, headers=headers)


@asynccontextmanager
async def running(script: Script, port: int = 0) -> AsyncIterator[str]:
    """Serve the script; yields the URL."""
    app = web.Application(client_max_size=1 << 30)

    async def handle(request: web.Request) -> web.StreamResponse:
        return await _answer(script, request)

    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()
