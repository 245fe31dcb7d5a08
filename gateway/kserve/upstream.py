"""The client of Triton's KServe v2 over HTTP."""

import asyncio
import logging
import random
import re
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import orjson

from gateway.concurrency import AdmissionControl, BackgroundTasks, SlowGate
from gateway.deadline import Deadline
from gateway.errors import (
    AurumError,
    InferenceUnavailableError,
    InvalidRequestError,
    NotFoundError,
    RequestTimeoutError,
)
from gateway.inference.client import RETRY_AFTER_SECONDS, find_undecodable
from gateway.kserve.request import Packed
from gateway.security.hosts import is_loopback
from gateway.tls import NO_FILES, ClientTls, TlsFiles

log = logging.getLogger(__name__)

HEAD_BYTES: Final = "Inference-Header-Content-Length"
ATTEMPTS: Final = 2
JITTER_SECONDS: Final = (0.02, 0.15)
LEFT_ALONE_SECONDS: Final = 60.0
"""How long a call that nobody awaits continues beyond its deadline."""
CLOSING_SECONDS: Final = 5.0
MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
_LONGEST_REASON: Final = 200
_PREFIX: Final = re.compile(r"^(\[request id: [^\]]*\] |in ensemble '[^']*', )+")
_OK: Final = 200
_REFUSED: Final = 400
_UNKNOWN: Final = 404
_FAILED: Final = 500
"""Statuses of Triton; higher ones mean that it is too busy or stopping."""
_NO_VERSION: Final = re.compile(r"version \d+ is not found")
_UNCOMPUTABLE: Final = "Non-zero status code returned while running"
"""First words of ONNX Runtime about tensors of a shape that does not fit a network."""


@dataclass(frozen=True, slots=True)
class TritonAnswer:
    """A 200 answer of Triton; `head_bytes` is set if tensors follow the JSON."""

    body: bytes
    head_bytes: int | None


class TritonHttp:
    """Calls to Triton by HTTP; opened within a running event loop."""

    def __init__(
        self,
        address: str | None,
        *,
        admission: AdmissionControl,
        slow: SlowGate,
        connections: int,
        files: TlsFiles = NO_FILES,
    ) -> None:
        """Call a server over at most `connections` connections.

        address: a URL without a path; None if it is not known, which refuses every call.
        slow: admits slow requests.
        files: certificates, for an https address.

        Raises ConfigurationError for a file that cannot be used.
        """
        self._address = address
        is_encrypted = address is not None and address.startswith("https://")
        self._tls = ClientTls(files) if is_encrypted else None
        if files.ca is not None and address is not None and not is_encrypted:
            host = urlsplit(address).hostname or ""
            if not is_loopback(host):
                log.warning("KServe v2 over HTTP to Triton is not encrypted", extra={"host": host})
        self._admission = admission
        self._slow = slow
        # answers are read as a whole, up to a limit; each caller has its own deadline
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections),
            timeout=aiohttp.ClientTimeout(total=None),
            skip_auto_headers=("Accept-Encoding", "User-Agent"),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self._under_way = BackgroundTasks()

    def check(self) -> None:
        """Raise InferenceUnavailableError if an inference would wait too long now."""
        self._admission.check()

    async def get(self, path: str, *, deadline: Deadline) -> TritonAnswer:
        """Get a path of the server or a model; raises as `refusal`, and RequestTimeoutError."""
        seconds = deadline.remaining_seconds()
        return await self._wait(self._call("GET", path, None, deadline), seconds)

    async def infer(self, path: str, request: Packed, *, deadline: Deadline) -> TritonAnswer:
        """Run a model; raises as `AdmissionControl.check` and `refusal`, and RequestTimeoutError.

        The call continues and holds its slot even if nobody waits for it any more: Triton 24.10 may
        die (signal 11) when a call to the ensemble is cancelled while others run.
        """
        seconds = deadline.remaining_seconds()
        self.check()
        return await self._wait(self._infer(path, request, deadline), seconds)

    async def close(self) -> None:
        """Close the connections; running calls have a moment to finish, then they fail."""
        await self._under_way.settle(seconds=CLOSING_SECONDS)
        await self._under_way.close()
        await self._session.close()

    async def _infer(self, path: str, request: Packed, deadline: Deadline) -> TritonAnswer:
        if request.is_slow:
            async with self._slow.turn(deadline):
                return await self._call("POST", path, request, deadline)
        with self._admission.take():
            return await self._call("POST", path, request, deadline)

    async def _wait(self, work: Coroutine[Any, Any, TritonAnswer], seconds: float) -> TritonAnswer:
        try:
            return await self._under_way.outlast("call-kserve", work, seconds=seconds)
        except TimeoutError as error:
            raise RequestTimeoutError("inference did not answer within the deadline") from error

    async def _call(
        self, method: str, path: str, request: Packed | None, deadline: Deadline
    ) -> TritonAnswer:
        """Call once more after a short random pause if Triton is not available."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self._call_once(method, path, request, deadline)
            except InferenceUnavailableError:
                if attempt == ATTEMPTS or not deadline.allows(JITTER_SECONDS[1]):
                    raise
            await asyncio.sleep(random.uniform(*JITTER_SECONDS))
        raise AssertionError("not reached")

    async def _call_once(
        self, method: str, path: str, request: Packed | None, deadline: Deadline
    ) -> TritonAnswer:
        if self._address is None:
            raise InferenceUnavailableError(
                "AURUM_TRITON_HTTP_URL is not set, so the gateway cannot reach KServe v2 of Triton",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )
        headers = {}
        if request is not None:
            headers = {
                "Content-Type": "application/octet-stream",
                HEAD_BYTES: str(request.head_bytes),
            }
        try:
            async with (
                asyncio.timeout(deadline.remaining_seconds() + LEFT_ALONE_SECONDS),
                self._session.request(
                    method,
                    self._address + path,
                    data=None if request is None else request.body,
                    headers=headers,
                    allow_redirects=False,
                    ssl=True if self._tls is None else self._tls.context(),
                ) as response,
            ):
                body = await _read(response)
                if response.status != _OK:
                    raise refusal(response.status, body, infers=request is not None)
                return TritonAnswer(body, _head_bytes(response, body))
        except (aiohttp.ClientError, OSError) as error:
            log.warning("triton unavailable", extra={"reason": str(error) or repr(error)})
            raise _unavailable() from error


def refusal(status: int, body: bytes, *, infers: bool) -> AurumError:
    """Translate an error of Triton; clients see a clean sentence only.

    infers: whether tensors were sent; otherwise the request cannot be invalid.
    Gives InvalidImageError, InvalidRequestError, NotFoundError (no such version),
    InferenceUnavailableError, or AurumError ("internal") for anything unexpected.
    """
    return explain(status, _error_text(body), infers=infers)


def explain(status: int, text: str, *, infers: bool) -> AurumError:
    """As `refusal`, for a status and a text."""
    undecodable = find_undecodable(text)
    if undecodable is not None:
        return undecodable
    # the death of a Python stage's process is an internal error, and Triton restarts it
    if status > _FAILED or "Stub process" in text or "not ready" in text:
        log.warning("triton unavailable", extra={"status": status, "reason": text})
        return _unavailable()
    if status == _UNKNOWN and _NO_VERSION.search(text):
        return NotFoundError("there is no such version of the model")
    # the model is in the contract: Triton would have it if any version worked
    if status == _UNKNOWN or (status == _REFUSED and not infers):
        log.warning("triton unavailable", extra={"status": status, "reason": text})
        return _unavailable()
    lines = _PREFIX.sub("", text).splitlines()
    first = lines[0][:_LONGEST_REASON] if lines else "it gave no reason"
    if text.startswith(_UNCOMPUTABLE):
        return InvalidRequestError("the network cannot compute tensors of these shapes")
    if status == _REFUSED:
        return InvalidRequestError(f"Triton refuses the request: {first}")
    log.error("triton failed", extra={"status": status, "reason": text})
    return AurumError("inference failed")


def _error_text(body: bytes) -> str:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    return str(document.get("error", "")) if isinstance(document, dict) else ""


def _unavailable() -> InferenceUnavailableError:
    return InferenceUnavailableError(
        "inference is not available at the moment", retry_after_seconds=RETRY_AFTER_SECONDS
    )


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > MAX_ANSWER_BYTES:
            log.error("triton's answer is too large", extra={"bytes": len(body)})
            raise AurumError("inference failed")
    return bytes(body)


def _head_bytes(response: aiohttp.ClientResponse, body: bytes) -> int | None:
    text = response.headers.get(HEAD_BYTES)
    if text is None:
        return None
    if not text.isdecimal() or int(text) > len(body):
        log.error("triton's answer does not hold together", extra={"header": text[:20]})
        raise AurumError("inference failed")
    return int(text)
