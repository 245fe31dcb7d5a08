"""Sends hostile inputs to a server, many at once, and says what is wrong with its answers."""

import asyncio
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import orjson

from tests.e2e.hostile.case import Case, Expected
from tests.support.gateway_server import PROBLEM_KEYS
from tests.support.raw_http import Answer, parse

_AT_ONCE: Final = 24
_PATIENCE_SECONDS: Final = 60.0
_MOMENT_SECONDS: Final = 0.1
_LENGTH: Final = re.compile(rb"\r\nContent-Length: (\d+)")
_MOST_BYTES: Final = 4096
"""Most bytes of a refusal: it must not repeat what was sent."""
_INSIDE: Final = re.compile(
    r"Traceback|File \\?\"|\.py\b|site-packages|/tmp/|/home/|/root/|gateway\.|aiohttp|pydantic"
    r"|numpy|sqlalchemy|sqlite|asyncpg|msgspec|Exception|Error\b|0x[0-9a-f]{9,}",
)
"""What shows the inside of the service."""
INJECTED: Final = "x-injected"
"""A header that inputs try to smuggle into the answer."""


@dataclass(frozen=True, slots=True)
class Sent:
    """An input that was sent to a route, and its answer; None for a closed connection."""

    case: Case
    route: str
    answer: Answer | None

    def complaint(self) -> str | None:
        """Say what is wrong with the answer; None if nothing is."""
        found = _complaint(self.answer, self.case.expected_of(self.route))
        return found and f"{self.case.kind}: {self.case.name} -> {self.route}: {found}"


async def ask(host: str, port: int, data: bytes) -> Answer | None:
    """Send bytes on a connection of their own; returns the answer, None if there is none."""
    reader, writer = await asyncio.open_connection(host, port)
    said = bytearray()
    receiving = asyncio.ensure_future(_receive(reader, said))
    try:
        writer.write(data)
        # refused before all was sent, the rest is not taken
        with suppress(ConnectionError):
            await asyncio.wait({receiving, asyncio.ensure_future(writer.drain())})
        with suppress(ConnectionError):
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await receiving
    finally:
        receiving.cancel()
        writer.close()
    return parse(bytes(said)) if said else None


async def _receive(reader: asyncio.StreamReader, said: bytearray) -> None:
    """Read one answer, and what follows it a moment later: a hidden request would be answered."""
    while not _is_whole(said):
        piece = await reader.read(1 << 16)
        if not piece:
            return
        said += piece
    with suppress(TimeoutError):
        async with asyncio.timeout(_MOMENT_SECONDS):
            said += await reader.read(1 << 16)


def _is_whole(said: bytearray) -> bool:
    head, blank, body = bytes(said).partition(b"\r\n\r\n")
    announced = _LENGTH.search(head)
    return bool(blank and announced) and len(body) >= int(announced[1])  # type: ignore[index]


async def send_all(host: str, port: int, cases: Iterable[Case]) -> Sequence[Sent]:
    """Send all inputs to all of their routes."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(case: Case, route: str, data: bytes) -> Sent:
        async with gate:
            return Sent(case, route, await ask(host, port, data))

    work = [one(case, *request) for case in cases for request in case.requests.items()]
    return await asyncio.gather(*work)


def _complaint(answer: Answer | None, expected: Expected) -> str | None:
    if answer is None:
        return None if expected[0] == 0 else f"no answer, {expected} was expected"
    status, code = answer.status, None
    if INJECTED in {name.lower() for name in answer.headers}:
        return "a header was smuggled into the answer"
    media = answer.headers.get("Content-Type", "")
    if media.startswith(("text/html", "image/svg")):
        return f"the answer is {media}"
    if status >= 400:
        if answer.body.count(b"HTTP/1."):
            return f"a second request was answered: {answer.body[:600]!r}"
        problem = orjson.loads(answer.body)
        code = problem["code"]
        if set(problem) - {"error"} != PROBLEM_KEYS or media != "application/problem+json":
            return f"the answer is no problem: {sorted(problem)}, {media}"
        if problem["status"] != status or answer.headers["X-Request-ID"] != problem["request_id"]:
            return "status or request id differ between head and body"
        if len(answer.body) > _MOST_BYTES:
            return f"the refusal has {len(answer.body)} bytes"
        if inside := _INSIDE.search(problem["detail"]):
            return f"the refusal shows {inside[0]!r}: {problem['detail'][:300]}"
    if (status, code) != expected:
        return f"{status} {code} instead of {expected}: {answer.body[:200]!r}"
    return None
