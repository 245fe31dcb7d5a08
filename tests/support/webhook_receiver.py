"""A receiver of webhooks, as an operator would write one: checks signature and age first."""

import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from gateway.jobs.webhook_policy import tenant_secret
from gateway.types import DEFAULT_TENANT

SECRET = "a secret of the tests"
"""The service's. A receiver knows those of its tenants only."""
MAX_AGE_SECONDS = 300


def verified(headers: Mapping[str, str], body: bytes) -> bool:
    """Whether a delivery is signed with the secret and recent; as `docs/jobs.md` shows it."""
    timestamp = headers["Aurum-Timestamp"]
    if abs(time.time() - int(timestamp)) > MAX_AGE_SECONDS:
        return False
    try:
        tenant = json.loads(body)["tenant"]
    except ValueError:
        tenant = DEFAULT_TENANT
    secret = tenant_secret(SECRET, tenant)
    expected = hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256)
    return hmac.compare_digest(headers["Aurum-Signature"], f"v2={expected.hexdigest()}")


@dataclass
class Receiver:
    """What arrived, and the statuses to answer with, in order; then 200."""

    statuses: list[int] = field(default_factory=list)
    port: int = 0
    deliveries: list[str] = field(default_factory=list)
    jobs: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    @property
    def host(self) -> str:
        """For `AURUM_WEBHOOK_HOSTS`."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """For `webhook`."""
        return f"http://{self.host}/hook?token=inside"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Take a delivery; the answer's body never ends."""
        # whatever comes, so that tests see it
        self.paths.append(request.path_qs)
        body = await request.read()
        assert request.method == "POST"
        assert request.headers["Content-Type"] == "application/json"
        assert verified(request.headers, body)
        assert not verified(request.headers, body + b" ")
        self.deliveries.append(request.headers["Aurum-Delivery"])
        self.jobs.append(json.loads(body))
        status = self.statuses.pop(0) if self.statuses else 200
        if status == 302:
            return web.Response(status=302, headers={"Location": "/elsewhere"})
        response = web.StreamResponse(status=status)
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65536)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen; every time on the same port."""
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self.handle)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", self.port).start()
            self.port = runner.addresses[0][1]
            yield
        finally:
            await runner.cleanup()
