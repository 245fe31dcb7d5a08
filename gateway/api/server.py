"""Connections: bytes that never become a request of a route are answered as a problem, too."""

import asyncio
import logging
import uuid
from typing import Any

from aiohttp import StreamReader, web
from aiohttp.web_protocol import RequestHandler

from gateway.api.answer_headers import protect
from gateway.api.context import REQUEST_ID_HEADER
from gateway.api.problems import write_problem
from gateway.errors import AurumError, InvalidRequestError

log = logging.getLogger(__name__)


class Connection(RequestHandler):
    """aiohttp's connection, which answers problem details instead of its own texts."""

    _answered: StreamReader | None = None
    """Body of the last answered request."""
    _head_timer: asyncio.TimerHandle | None = None
    """Runs while the head of a request is awaited, from its first byte on."""

    def __init__(self, manager: web.Server, *, head_timeout_seconds: float, **options: Any) -> None:
        """head_timeout_seconds: longest time for the head of a request."""
        super().__init__(manager, **options)
        self._head_timeout_seconds = head_timeout_seconds

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Await the first head."""
        super().connection_made(transport)
        self._start_head_timer()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the connection."""
        self._stop_head_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes of a head or of a body."""
        heads = self._request_count
        super().data_received(data)
        if self._request_count != heads:
            self._stop_head_timer()
        elif self._waiter is not None and self._head_timer is None:
            # no request is being answered, so these bytes are a part of the next head
            self._start_head_timer()

    def _start_head_timer(self) -> None:
        self._head_timer = self._loop.call_later(self._head_timeout_seconds, self._give_up_head)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up_head(self) -> None:
        self._head_timer = None
        log.info("the head of a request did not arrive in time")
        self.force_close()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer."""
        self._answered = request.content
        return await super().finish_response(request, resp, start_time)

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109
        """Close as soon as a request in progress is answered."""
        # after a refusal aiohttp reads on for seconds, so that the client can read the answer
        if self._answered is not None and not self._answered.is_eof():
            self._answered.feed_eof()
        await super().shutdown(timeout)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer bytes that are not an HTTP request, or a failure outside of the app."""
        request_id = uuid.uuid4().hex
        more = {"request_id": request_id}
        error: AurumError
        if status < 500:
            # anybody can send such bytes, so the log gets no traceback
            log.info("malformed request", extra={**more, "error": type(exc).__name__})
            error = InvalidRequestError(
                "the request is not well-formed HTTP, or its head is too long"
            )
        else:
            log.error("unexpected", exc_info=exc, extra=more)
            error = AurumError("unexpected error; the log has its request id")
        if request.writer.output_size > 0:
            raise ConnectionError("a part of the answer was sent already")
        response = write_problem(error, request_id=request_id)
        response.headers[REQUEST_ID_HEADER] = request_id
        protect(response, secure=request.secure)
        response.force_close()
        return response


class _Server(web.Server):
    head_timeout_seconds = 0.0

    def __call__(self) -> RequestHandler:
        return Connection(
            self,
            loop=self._loop,
            head_timeout_seconds=self.head_timeout_seconds,
            **self._kwargs,
        )


class Runner(web.AppRunner):
    """Serves an application through `Connection`."""

    def __init__(
        self, app: web.Application, *, head_timeout_seconds: float, **options: Any
    ) -> None:
        """head_timeout_seconds: longest time for the head of a request."""
        super().__init__(app, **options)
        self._head_timeout_seconds = head_timeout_seconds

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        server = _Server(
            made.request_handler,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            **made._kwargs,
        )
        server.head_timeout_seconds = self._head_timeout_seconds
        return server
