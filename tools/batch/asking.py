"""Asks the service, again where that helps: it obeys `Retry-After`, and waits longer each time."""

import asyncio
import json
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Final, Self

import aiohttp

from tools.errors import BatchError, ServiceError

_BUSY: Final = frozenset({429, 502, 503})
"""Statuses of a service that answers later; the request itself is fine."""
_UNLUCKY: Final = frozenset({500, 504})
"""Statuses that a second try may avoid, and that the request itself may cause."""
_TRIES: Final = 3
"""For `_UNLUCKY` and answers that take too long."""
_FIRST_PAUSE_SECONDS: Final = 0.5
_LONGEST_PAUSE_SECONDS: Final = 15.0
_HELLO_SECONDS: Final = 5.0
_ANSWER_SECONDS: Final = 120.0
PATIENCE_SECONDS: Final = 120.0
_REFUSES_ALL: Final = frozenset({401, 403, 404, 405})
"""Statuses that every further request would get, too."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request, which can be sent again; image: sent as a form together with the fields."""

    path: str
    fields: Mapping[str, str] = field(default_factory=dict)
    image: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = "POST"

    def body(self) -> aiohttp.FormData | bytes | None:
        """Build the body: a form beside an image, JSON otherwise."""
        if self.image is None:
            return json.dumps(dict(self.fields)).encode() if self.fields else None
        form = aiohttp.FormData(default_to_multipart=True)
        for name, value in self.fields.items():
            form.add_field(name, value)
        form.add_field("image", self.image, filename="image")
        return form

    def all_headers(self) -> Mapping[str, str]:
        """Return the headers, with the content type of JSON."""
        if self.image is None and self.fields:
            return {"Content-Type": "application/json", **self.headers}
        return self.headers


@dataclass(frozen=True, slots=True)
class Reply:
    """A status with its JSON; `replayed`: it is that of an earlier request with the same key."""

    status: int
    body: Mapping[str, Any]
    replayed: bool = False

    @property
    def is_good(self) -> bool:
        """Whether the service did what was asked."""
        return self.status < 400

    @property
    def code(self) -> str:
        """The stable code of a problem."""
        return str(self.body.get("code", ""))

    def problem(self) -> BatchError:
        """Make an error of an answer that every further request would get, too."""
        return BatchError(f"{self.code or self.status}: {self.body.get('detail', '')}")

    @property
    def refuses_all(self) -> bool:
        """Whether every further request would be refused alike."""
        return self.status in _REFUSES_ALL


class Service:
    """A gateway at a URL; an asynchronous context."""

    def __init__(
        self,
        url: str,
        *,
        parallel: int,
        headers: Mapping[str, str] | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        """Prepare.

        Args:
            url: `http://host:port`, perhaps with a path.
            parallel: connections at a time.
            headers: of every request, such as a key.
            patience_seconds: how long one request is tried while the service is busy or away.
        """
        self.url = url.rstrip("/")
        self._parallel = parallel
        self._headers = dict(headers or {})
        self._patience = patience_seconds
        self._not_before = 0.0
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open; raises BatchError for no URL, ServiceError unless a gateway answers there now."""
        if not self.url.startswith(("http://", "https://")):
            raise BatchError(f"--url: {self.url} does not begin with http:// or https://")
        self._session = aiohttp.ClientSession(
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=_ANSWER_SECONDS),
            connector=aiohttp.TCPConnector(limit=self._parallel),
        )
        try:
            await self._greet(self._session)
        except BaseException:
            await self._session.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def ask(self, request: Request) -> Reply:
        """Send a request until it has an answer that another try would not change.

        Raises:
            ServiceError: it was busy or away for longer than `patience_seconds`.
        """
        started = time.monotonic()
        tries = 0
        while True:
            await self._wait_for_turn()
            tries += 1
            reply, pause = await self._once(request)
            if pause is None:
                return reply
            if reply.status in _UNLUCKY and tries >= _TRIES:
                return reply
            pause = max(pause, _backoff(tries))
            if time.monotonic() + pause - started > self._patience:
                raise ServiceError(f"{self.url}: {reply.body['detail']}")
            if reply.status in _BUSY:
                # one response holds for all workers
                self._not_before = max(self._not_before, time.monotonic() + pause)
            else:
                await asyncio.sleep(pause)

    async def _wait_for_turn(self) -> None:
        while True:
            pause = self._not_before - time.monotonic()
            if pause <= 0:
                return
            # not all at the same moment
            await asyncio.sleep(pause + random.uniform(0, 0.1 * pause))

    async def _once(self, request: Request) -> tuple[Reply, float | None]:
        """Send it once; returns the reply and how long to wait before another try, None for none.

        A connection that fails is a reply with status 503.
        """
        if self._session is None:
            raise RuntimeError("the service is not open")
        try:
            async with self._session.request(
                request.method,
                self.url + request.path,
                data=request.body(),
                headers=request.all_headers(),
            ) as response:
                text = await response.read()
                reply = Reply(
                    response.status, _parse(text), "Idempotency-Replayed" in response.headers
                )
                after = response.headers.get("Retry-After")
        except TimeoutError:
            return _problem(504, "timeout", f"no answer within {_ANSWER_SECONDS:g} s"), 0.0
        except aiohttp.ClientError as error:
            return _problem(503, "unreachable", f"not reachable: {error}"), 0.0
        if reply.status in _BUSY | _UNLUCKY or (reply.status == 409 and after is not None):
            return reply, _seconds(after)
        return reply, None

    async def _greet(self, session: aiohttp.ClientSession) -> None:
        timeout = aiohttp.ClientTimeout(total=_HELLO_SECONDS)
        try:
            async with session.get(f"{self.url}/api/health/live", timeout=timeout) as response:
                body = _parse(await response.read())
        except aiohttp.InvalidURL as error:
            raise BatchError(f"--url: {self.url!r} is no URL") from error
        except (aiohttp.ClientError, TimeoutError) as error:
            reason = str(error) or f"no answer within {_HELLO_SECONDS:g} s"
            raise ServiceError(f"no gateway at {self.url}: {reason}") from error
        if body.get("status") != "live":
            raise ServiceError(f"what answers at {self.url} is no Aurum gateway")


def _parse(text: bytes) -> Mapping[str, Any]:
    try:
        body = json.loads(text)
    except ValueError:
        body = None
    if isinstance(body, dict):
        return body
    return {"code": "no_json", "detail": "the answer is no JSON object"}


def _problem(status: int, code: str, detail: str) -> Reply:
    return Reply(status, {"code": code, "detail": detail})


def _seconds(after: str | None) -> float:
    """Read `Retry-After`: seconds or a date."""
    if after is None:
        return 0.0
    if after.strip().isdecimal():
        return float(after)
    try:
        when = parsedate_to_datetime(after)
    except ValueError:
        return 0.0
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max((when - datetime.now(UTC)).total_seconds(), 0.0)


def _backoff(tries: int) -> float:
    longest: float = min(_FIRST_PAUSE_SECONDS * 2 ** (tries - 1), _LONGEST_PAUSE_SECONDS)
    return longest * random.uniform(0.5, 1)
