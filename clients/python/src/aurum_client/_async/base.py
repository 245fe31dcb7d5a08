"""What all calls share: connections, time limits, retry, fallback."""

from __future__ import annotations

import copy
import ssl
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Optional, TypeVar, Union

import httpx

from aurum_client._version import __version__
from aurum_client.answers import read_answer, read_error, transport_error
from aurum_client.errors import AurumError
from aurum_client.fallback import (
    FaceOptions,
    Fallback,
    HealthGate,
    means_unhealthy,
    run_fallback,
)
from aurum_client.images import ImageSource
from aurum_client.limits import Deadline, TimeLimits
from aurum_client.rate_limits import LastLimits, RateLimit
from aurum_client.request import Request, as_json, bearer, path_of, raw_body, texts_of
from aurum_client.results.faces import FacesResult
from aurum_client.results.service import Liveness, Readiness
from aurum_client.retry import RetryPolicy, may_repeat
from aurum_client.waiting import async_call, async_chunks, async_exchange, async_read, async_sleep

T = TypeVar("T")
Me = TypeVar("Me", bound="AsyncBase")
_CHECK_SECONDS = 1.0
"""Most time that a call spends on the check of an unhealthy service."""
READY: Request[Readiness] = Request(
    "GET", path_of("health", "ready"), as_json(Readiness), accepted=(503,)
)
LIVE: Request[Liveness] = Request("GET", path_of("health", "live"), as_json(Liveness))


class AsyncBase:
    """Sends requests over connections that are kept open."""

    def __init__(
        self,
        url: str = "http://localhost:8080",
        *,
        limits: Optional[TimeLimits] = None,
        retry: Optional[RetryPolicy] = None,
        fallback: Optional[Fallback] = None,
        check_seconds: float = 5.0,
        api_key: Optional[str] = None,
        headers: Optional[Mapping[str, str]] = None,
        max_connections: int = 100,
        verify: Union[ssl.SSLContext, bool] = True,
        transport: Optional[httpx.AsyncBaseTransport] = None,
    ) -> None:
        """Connect at the first call; close when done, or use it in a `with` block.

        Args:
            url: of the service; may have a path.
            limits: seconds of a call.
            retry: how often a request is sent.
            fallback: answers score, detect and embed while the service is unhealthy.
            check_seconds: pause between two checks of an unhealthy service.
            api_key: of the service, `aur_…`, or a token; sent with each request.
            headers: of each request.
            max_connections: most connections at once; further calls wait.
            verify: checks the certificate of an https service, and may hold one of the client's;
                `ssl.create_default_context(cafile=…)` accepts an authority of your own.
            transport: of httpx, instead of its own; for proxies and tests.

        """
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"not an http or https URL: {url}")
        credentials = {} if api_key is None else bearer(api_key)
        self._limits = limits or TimeLimits()
        self._retry = retry or RetryPolicy()
        self._fallback = fallback
        self._gate = HealthGate(check_seconds)
        self._last_limits = LastLimits()
        self._http = httpx.AsyncClient(
            base_url=url,
            headers={
                "User-Agent": f"aurum-client/{__version__}",
                **credentials,
                **(headers or {}),
            },
            limits=httpx.Limits(
                max_connections=max_connections, max_keepalive_connections=max_connections
            ),
            verify=verify,
            transport=transport,
        )

    async def __aenter__(self: Me) -> Me:
        return self

    async def __aexit__(self, kind: Optional[type[BaseException]], *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    def with_options(
        self: Me, *, limits: Optional[TimeLimits] = None, retry: Optional[RetryPolicy] = None
    ) -> Me:
        """Return a client with other limits that shares the connections and their closing."""
        other = copy.copy(self)
        other._limits = limits or self._limits
        other._retry = retry or self._retry
        return other

    @property
    def rate_limits(self) -> Mapping[str, RateLimit]:
        """The limits of the key in the last answer that named any, by policy; mostly `requests`.

        Empty if the key has no limits.
        """
        return self._last_limits.by_policy

    @property
    def uses_fallback(self) -> bool:
        """Whether the service was unhealthy at the last call, so that the fallback answers."""
        return self._fallback is not None and not self._gate.is_healthy

    async def send(self, request: Request[T]) -> T:
        """Send a request for which there is no method; raises AurumError."""
        return await self._send(request)

    async def _send(self, request: Request[T], deadline: Optional[Deadline] = None) -> T:
        """Send a request as often as the policy allows; raises AurumError."""
        deadline = deadline or Deadline.after(self._limits.total)
        attempt = 1
        while True:
            try:
                return await self._attempt(request, deadline)
            except AurumError as error:
                if attempt >= self._retry.attempts or not may_repeat(request, error):
                    raise
                pause = self._retry.pause(attempt, error)
                if not deadline.allows(pause):
                    raise
            await async_sleep(pause)
            attempt += 1

    async def _attempt(self, request: Request[T], deadline: Deadline) -> T:
        content = None if request.upload is None else async_chunks(request.upload)
        built = request.build(self._http, deadline.timeout(self._limits), content)
        try:
            response = await async_exchange(self._http, built, deadline)
        except httpx.RequestError as error:
            # a step that was cut short by the deadline
            deadline.remaining()
            raise transport_error(error) from error
        self._last_limits.note(response.headers)
        return read_answer(request, response)

    async def _open(self, request: Request[object], deadline: Deadline) -> httpx.Response:
        """Send a request once; return its answer before the body is read. Raises AurumError."""
        built = request.build(self._http, deadline.timeout(self._limits))
        try:
            response = await self._http.send(built, stream=True)
            if not response.is_success:
                await response.aread()
        except httpx.RequestError as error:
            raise transport_error(error) from error
        self._last_limits.note(response.headers)
        if not response.is_success:
            raise read_error(response)
        return response

    async def _chunks(self, response: httpx.Response) -> AsyncIterator[bytes]:
        """Read the body of an answer of `_open`; raises AurumError if it breaks off."""
        try:
            async for chunk in response.aiter_bytes():
                yield chunk
        except httpx.RequestError as error:
            raise transport_error(error) from error
        finally:
            await response.aclose()

    async def _analyse(
        self, image: ImageSource, operation: str, options: FaceOptions
    ) -> FacesResult:
        """Score, detect or embed, with the fallback if there is one."""
        deadline = Deadline.after(self._limits.total)
        picture = await async_read(image, deadline)
        body, headers = raw_body(picture)
        request = Request(
            "POST",
            path_of("ml", operation),
            as_json(FacesResult),
            query=texts_of(options.query()),
            body=body,
            headers=headers,
            is_read_only=True,
        )
        fallback = self._fallback
        if fallback is None or picture.url is not None:
            return await self._send(request, deadline)
        if await self._is_healthy(deadline):
            try:
                return await self._send(request, deadline)
            except AurumError as error:
                if not means_unhealthy(error):
                    raise
                self._gate.report_failure()
                if not deadline.allows(0):
                    # nobody waits for the fallback any more; the next call goes there at once
                    raise
        work = partial(run_fallback, fallback, operation, picture.data, options)
        return await async_call(work, deadline)

    async def _is_healthy(self, deadline: Deadline) -> bool:
        """Whether to ask the service; checks an unhealthy one if that is due."""
        if self._gate.is_healthy:
            return True
        if not self._gate.claim_check():
            return False
        try:
            readiness = await self._attempt(READY, deadline.capped(_CHECK_SECONDS))
        except AurumError:
            return False
        if readiness.is_ready:
            self._gate.report_success()
        return readiness.is_ready
