"""The service before it can answer and while it ends: what its health routes say, and when."""

import asyncio
import uuid
from typing import Final

from aiohttp import web

from gateway.api.answer_headers import add_headers
from gateway.api.context import REQUEST_ID_HEADER, json_answer
from gateway.api.health.schemas import LiveOut, PartOut, ReadyOut
from gateway.api.problems import is_kserve, write_problem
from gateway.errors import StorageUnavailableError
from gateway.tls import ServerTls

_NOT_READY: Final = 503
_RETRY_AFTER_SECONDS: Final = 2


class Lifecycle:
    """Where the process stands between its start and its end."""

    def __init__(self) -> None:
        self.stopping = False
        """Whether the service is about to end: it still answers, but wants no more requests."""
        self.ending = asyncio.Event()
        """Whether it ends now: what is in flight is answered, and nothing else."""
        self.waiting_for = ""
        """The store that the start waits for; empty while it goes on."""
        self.waits = asyncio.Event()
        """Whether the start had to wait for a store."""

    async def end(self, _: web.Application) -> None:
        """Note that the service ends now."""
        self.ending.set()

    def note_waiting(self, what: str) -> None:
        """Note what the start waits for; empty: nothing any more."""
        self.waiting_for = what
        if what:
            self.waits.set()


SERVER_TLS: Final = web.AppKey("server_tls", ServerTls)
"""The certificates of the service; missing where it speaks plain text."""
LIFECYCLE: Final = web.AppKey("lifecycle", Lifecycle)


def stopping_out() -> ReadyOut:
    """Shape the readiness of a service that is about to end."""
    part = PartOut(status="unready", detail="is about to end; requests in flight are answered")
    return ReadyOut(status="stopping", parts={"gateway": part})


def starting_app(lifecycle: Lifecycle, *, shows_details: bool) -> web.Application:
    """Make what answers until the services are open: alive, not ready, 503 for all else.

    shows_details: say what is waited for, with its address. Keys cannot be looked up yet.
    """
    app = web.Application()
    app.on_response_prepare.append(add_headers)

    async def answer(request: web.Request) -> web.Response:
        detail = (lifecycle.waiting_for if shows_details else "") or "is starting"
        if request.path == "/api/health/live":
            response = json_answer(LiveOut(status="live"))
        elif request.path == "/api/health/ready":
            part = PartOut(status="unready", detail=detail)
            shape = ReadyOut(status="starting", parts={"gateway": part})
            response = json_answer(shape, status=_NOT_READY)
            response.headers["Retry-After"] = str(_RETRY_AFTER_SECONDS)
        else:
            error = StorageUnavailableError(
                f"the service is starting: {detail}", retry_after_seconds=_RETRY_AFTER_SECONDS
            )
            request_id = uuid.uuid4().hex
            response = write_problem(error, request_id=request_id, for_kserve=is_kserve(request))
            response.headers[REQUEST_ID_HEADER] = request_id
        # the next request may meet the service itself
        response.force_close()
        return response

    app.router.add_route("*", "/{path:.*}", answer)
    return app
