"""Requests of the bulk commands, on the Python client: one pause for all, patience for each.

The client sends a request once and translates its failures. The loop here differs from the
client's own retry: all requests wait while the service is busy, and an image that makes the service
fail (500, 504) is tried a few times before it counts as failed.
"""

import asyncio
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import parse_qsl

import httpx
from aurum_client import (
    AsyncAurumClient,
    AurumError,
    ProblemError,
    RetryPolicy,
    TimeLimitError,
    TimeLimits,
    UnexpectedAnswerError,
)
from aurum_client.images import Picture
from aurum_client.request import Request as ClientRequest
from aurum_client.request import form_body

from gateway.settings import Settings, load_settings
from tools.clients.service_client import open_async_client
from tools.errors import BatchError, ServiceError

_BUSY: Final = frozenset({429, 502, 503})
"""Statuses of a service that answers later; the request itself is fine."""
_UNLUCKY: Final = frozenset({500, 504})
"""Statuses that a second try may avoid, and that the request itself may cause."""
_TRIES: Final = 3
"""For `_UNLUCKY` and answers that take too long."""
_PAUSES: Final = RetryPolicy(attempts=1, first_pause=0.5, longest_pause=15.0)
"""Pauses between attempts; the client itself makes one."""
_GREETING_SECONDS: Final = 5.0
_ANSWER_SECONDS: Final = 120.0
PATIENCE_SECONDS: Final = 120.0
_REFUSES_ALL: Final = frozenset({401, 403, 404, 405})
"""Statuses that every further request would get, too."""


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


@dataclass(frozen=True, slots=True)
class Request:
    """One request, which can be sent again; image: sent as a form together with the fields.

    path: may have a query.
    """

    path: str
    fields: Mapping[str, str] = field(default_factory=dict)
    image: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = "POST"

    def for_client(self) -> ClientRequest[Reply]:
        """Build the client's request: a form with an image, JSON otherwise."""
        path, _, query = self.path.partition("?")
        body: Mapping[str, Any] = {}
        if self.image is not None:
            body = form_body([("image", Picture(self.image, None))], self.fields)
        elif self.fields:
            body = {"json": dict(self.fields)}
        return ClientRequest(
            self.method,
            path,
            _read,
            query=dict(parse_qsl(query, keep_blank_values=True)),
            body=body,
            headers=self.headers,
        )


class Service:
    """A gateway at a URL; an asynchronous context."""

    def __init__(
        self,
        url: str,
        *,
        parallel: int,
        headers: Mapping[str, str] | None = None,
        settings: Settings | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        """Prepare.

        Args:
            url: `http://host:port`, perhaps with a path.
            parallel: connections at a time.
            headers: of every request, such as a key.
            settings: whose certificates an https service must show; None uses the environment's.
            patience_seconds: how long one request is tried while the service is busy or away.
        """
        self.url = url.rstrip("/")
        self._parallel = parallel
        self._headers = dict(headers or {})
        self._settings = settings
        self._patience = patience_seconds
        self._not_before = 0.0
        self._client: AsyncAurumClient | None = None

    async def __aenter__(self) -> Self:
        """Open; raises BatchError for no URL, ServiceError unless a gateway answers there now."""
        client = open_async_client(
            self.url,
            self._settings or load_settings(),
            headers=self._headers,
            connections=self._parallel,
            limits=TimeLimits(connect=_ANSWER_SECONDS, read=_ANSWER_SECONDS, total=_ANSWER_SECONDS),
            retry=_PAUSES,
        )
        try:
            await self._greet(client)
        except BaseException:
            await client.aclose()
            raise
        self._client = client
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.aclose()

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
            try:
                return await self._send(request)
            except AurumError as error:
                reply = _reply_of(error)
                if not _may_try_again(reply, error, tries):
                    return reply
                pause = _PAUSES.pause(tries, error)
            if time.monotonic() + pause - started > self._patience:
                raise ServiceError(f"{self.url}: {reply.body['detail']}")
            if reply.status in _BUSY:
                # one response holds for all workers
                self._not_before = max(self._not_before, time.monotonic() + pause)
            else:
                await asyncio.sleep(pause)

    async def _send(self, request: Request) -> Reply:
        if self._client is None:
            raise RuntimeError("the service is not open")
        return await self._client.send(request.for_client())

    async def _wait_for_turn(self) -> None:
        while True:
            pause = self._not_before - time.monotonic()
            if pause <= 0:
                return
            # not all at the same moment
            await asyncio.sleep(pause + random.uniform(0, 0.1 * pause))

    async def _greet(self, client: AsyncAurumClient) -> None:
        brief = TimeLimits(_GREETING_SECONDS, _GREETING_SECONDS, _GREETING_SECONDS)
        greeting = Request("/api/health/live", method="GET").for_client()
        try:
            reply = await client.with_options(limits=brief).send(greeting)
        except (ProblemError, UnexpectedAnswerError) as error:
            raise ServiceError(f"what answers at {self.url} is no Aurum gateway") from error
        except AurumError as error:
            raise ServiceError(f"no gateway at {self.url}: {error}") from error
        if reply.body.get("status") != "live":
            raise ServiceError(f"what answers at {self.url} is no Aurum gateway")


def _read(response: httpx.Response) -> Reply:
    """Read a good answer; raises ValueError if it is not a JSON object."""
    body = response.json()
    if not isinstance(body, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - a wrong answer, not a wrong argument
    return Reply(response.status_code, body, "Idempotency-Replayed" in response.headers)


def _reply_of(error: AurumError) -> Reply:
    """Translate a failure; one without an answer gets the status of a proxy that had none."""
    if isinstance(error, ProblemError):
        return Reply(error.status, {"code": error.code, "detail": error.detail})
    if isinstance(error, UnexpectedAnswerError):
        # a good status with a body that cannot be used is no success
        status = error.status if error.status >= 400 else 502
        return Reply(status, {"code": "no_json", "detail": error.message})
    if isinstance(error, TimeLimitError):
        detail = f"no answer within {_ANSWER_SECONDS:g} s"
        return Reply(504, {"code": "timeout", "detail": detail})
    return Reply(503, {"code": "unreachable", "detail": f"not reachable: {error}"})


def _may_try_again(reply: Reply, error: AurumError, tries: int) -> bool:
    if reply.status in _UNLUCKY:
        return tries < _TRIES
    # the first request with this key is still running
    is_running = (
        isinstance(error, ProblemError) and reply.status == 409 and error.retry_after is not None
    )
    return reply.status in _BUSY or is_running
