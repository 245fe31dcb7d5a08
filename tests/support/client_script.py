"""The Python client with a scripted service."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
from aurum_client import AsyncAurumClient, AurumClient


class Script:
    """A service that answers each request with the next of these: a response or an error."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.bodies: list[bytes] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.bodies.append(request.read())
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


def refusal(status: int, code: str, **headers: str) -> httpx.Response:
    """Refuse as the service does."""
    body = {"code": code, "status": status, "title": "T", "detail": "D", "request_id": "r1"}
    return httpx.Response(status, json=body, headers=headers)


def run_sync(
    script: Callable[[httpx.Request], httpx.Response], work: Callable[[Any], Any], **options: Any
) -> Any:
    """Do work with a client whose service is the script."""
    with AurumClient("http://a", transport=httpx.MockTransport(script), **options) as client:
        return work(client)


def run_async(
    script: Callable[[httpx.Request], httpx.Response], work: Callable[[Any], Any], **options: Any
) -> Any:
    """Do the same with the async client."""

    async def run() -> Any:
        transport = httpx.MockTransport(script)
        async with AsyncAurumClient("http://a", transport=transport, **options) as client:
            return await work(client)

    return asyncio.run(run())
