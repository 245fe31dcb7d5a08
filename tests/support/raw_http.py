"""HTTP as bytes on a socket: what client libraries would not send, or not so slowly."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

import orjson
import pytest_asyncio
from aiohttp import ClientSession

from tests.support.collection_client import Embedder, make
from tests.support.fake_inference import FakeInference
from tests.support.gateway_server import PROBLEM_KEYS, serving

FORM = "Content-Type: multipart/form-data; boundary=b"
JSON = "Content-Type: application/json"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def people() -> AsyncIterator[ClientSession]:
    """One gateway for a module, with a collection `people`; its tests share the module's loop."""
    async with serving(FakeInference(), Embedder()) as client:
        await make(client)
        yield client


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back until the server closed the connection."""

    status: int
    headers: dict[str, str]
    body: bytes
    before: bytes
    """Interim answers."""

    @property
    def code(self) -> str:
        """Code of the problem."""
        return str(orjson.loads(self.body)["code"])

    @property
    def detail(self) -> str:
        """Text of the problem."""
        return str(orjson.loads(self.body)["detail"])


async def connect(client: ClientSession) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection to the server of a session."""
    url = urlsplit(str(client._base_url))
    return await asyncio.open_connection(url.hostname, url.port)


async def exchange(client: ClientSession, pieces: Iterable[bytes], *, pause: float = 0) -> Answer:
    """Send pieces with pauses, while the server answers or not, and read until it closes."""
    reader, writer = await connect(client)
    answer = asyncio.ensure_future(_read_all(reader))
    try:
        for piece in pieces:
            writer.write(piece)
            if pause:
                await asyncio.sleep(pause)
            if answer.done():
                break
        return parse(await asyncio.wait_for(answer, 60))
    finally:
        answer.cancel()
        writer.close()


async def _read_all(reader: asyncio.StreamReader) -> bytes:
    """Read until the server closes, or resets as it closes while this side still sends."""
    data = b""
    try:
        while piece := await reader.read(1 << 16):
            data += piece
    except ConnectionResetError:
        if not data:
            raise
    return data


def parse(data: bytes) -> Answer:
    """Split an answer."""
    before = b""
    while data.startswith(b"HTTP/1.1 100"):
        interim, _, data = data.partition(b"\r\n\r\n")
        before += interim
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return Answer(int(first.split()[1]), headers, body, before)


def head(
    method: str,
    path: str | bytes,
    *lines: str | bytes,
    length: int | None = None,
    close: bool = True,
) -> bytes:
    """Write the head of a request."""
    encoded = [line.encode() if isinstance(line, str) else line for line in lines]
    if length is not None:
        encoded.append(b"Content-Length: %d" % length)
    if close:
        encoded.append(b"Connection: close")
    path = path.encode() if isinstance(path, str) else path
    start = b"%s %s HTTP/1.1\r\nHost: localhost\r\n" % (method.encode(), path)
    return start + b"".join(line + b"\r\n" for line in encoded) + b"\r\n"


async def send(
    client: ClientSession, method: str, path: str | bytes, body: bytes = b"", *lines: str | bytes
) -> Answer:
    """Send a request as it is given, on a connection of its own."""
    length = len(body) if body or method == "POST" else None
    return await exchange(client, [head(method, path, *lines, length=length), body])


def filled(path: str) -> str:
    """Fill in the parameters of a route: the collection is `people`, the model the pipeline."""
    path = path.replace("docs/{name}", "docs/docs.js").replace("{name}", "people")
    path = path.replace("{model}", "face_pipeline").replace("{version}", "1")
    return re.sub(r"{\w+}", "x", path)


def part(disposition: str | bytes, data: bytes) -> bytes:
    """Write a form field, for the boundary `b`."""
    given = disposition.encode() if isinstance(disposition, str) else disposition
    return b"--b\r\nContent-Disposition: form-data; " + given + b"\r\n\r\n" + data + b"\r\n"


def refused(answer: Answer, code: str = "invalid_request") -> str:
    """Check that an answer is a problem with this code; returns its detail."""
    problem = orjson.loads(answer.body)
    # KServe routes say the detail as `error`, too
    assert set(problem) - {"error"} == PROBLEM_KEYS
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["X-Request-ID"] == problem["request_id"]
    assert (problem["code"], problem["status"]) == (code, answer.status)
    return str(problem["detail"])
