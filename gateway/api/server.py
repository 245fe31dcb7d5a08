"""Connections: what never becomes a request of a route is answered as a problem, too."""

import logging
import uuid

from aiohttp import StreamReader, web
from aiohttp.web_protocol import RequestHandler

from gateway.api.context import REQUEST_ID_HEADER
from gateway.api.middleware import write_problem
from gateway.errors import AurumError, InvalidRequestError

log = logging.getLogger(__name__)


class Connection(RequestHandler):
    """aiohttp's connection, with problem details instead of its own texts."""

    _answered: StreamReader | None = None
    """Body of the last request that was answered."""

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send the answer."""
        self._answered = request.content
        return await super().finish_response(request, resp, start_time)

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109
        """Close, once a request in progress is answered."""
        # aiohttp reads on for seconds after it refused a body, so that the answer is read
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
        """Answer bytes that are no HTTP request (a client's error), or a failure around the app."""
        request_id = uuid.uuid4().hex
        more = {"request_id": request_id}
        error: AurumError
        if status < 500:
            # anybody can send such bytes: no traceback in the log
            log.info("malformed request", extra={**more, "error": type(exc).__name__})
            error = InvalidRequestError("the request is no well-formed HTTP, or its head too long")
        else:
            log.error("unexpected", exc_info=exc, extra=more)
            error = AurumError("an unexpected error; its request id is in the log")
        if request.writer.output_size > 0:
            raise ConnectionError("a part of the answer is sent already")
        response = write_problem(error, request_id=request_id)
        response.headers[REQUEST_ID_HEADER] = request_id
        response.force_close()
        return response


class _Server(web.Server):
    def __call__(self) -> RequestHandler:
        return Connection(self, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    """Serves an application through `Connection`."""

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(
            made.request_handler,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            **made._kwargs,
        )
