"""Answers a request at its deadline, whatever its handler is waiting for."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from aiohttp import web

from gateway.api.context import context_of
from gateway.concurrency import BackgroundTasks
from gateway.errors import RequestTimeoutError

T = TypeVar("T")

HANDLERS: Final = web.AppKey("handlers", BackgroundTasks)
"""Owner of the work of all requests; what was given up may still be cleaning up."""
_GRACE_SECONDS: Final = 0.2
"""For the error of a part that keeps to the deadline itself, which says more than ours."""


async def in_time(request: web.Request, work: Coroutine[Any, Any, T]) -> T:
    """Run the work of a request until its deadline.

    Work that is late, or whose caller hung up, is cancelled and not waited for: a store that hangs
    may keep it from ending.

    Raises RequestTimeoutError at the deadline, and whatever `work` raises.
    """
    task = request.app[HANDLERS].detach("request", _with_deadline(request, work))
    try:
        # the deadline restarts when the body of a request is complete
        while not task.done() and (left := _left_seconds(request)) > 0:
            await asyncio.wait({task}, timeout=left)
        if task.done():
            return task.result()
    finally:
        task.cancel()
        # an error that it raised would refer to its own traceback
        del task
    raise RequestTimeoutError("the request took longer than its deadline allows")


async def _with_deadline(request: web.Request, work: Coroutine[Any, Any, T]) -> T:
    # a task of its own knows no request
    context_of(request).deadline.make_current()
    return await work


def _left_seconds(request: web.Request) -> float:
    return context_of(request).deadline.at + _GRACE_SECONDS - time.monotonic()
