"""Waits for a store that a starting process needs and that does not answer yet."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from gateway.errors import StorageUnavailableError

T = TypeVar("T")
log = logging.getLogger(__name__)

_INTERVAL_SECONDS: Final = 0.5
_LINE_SECONDS: Final = 5.0
"""Interval of the lines that say what is waited for."""


async def open_when_there(
    name: str,
    attempt: Callable[[], Awaitable[T]],
    *,
    seconds: float,
    observer: Callable[[str], None] = lambda _: None,
) -> T:
    """Open a store as soon as it answers; `observer` gets what is waited for, and "" at the end.

    Raises: StorageUnavailableError if it did not answer within `seconds`. Otherwise as `attempt`:
    wrong credentials end the wait at once.
    """
    started = time.monotonic()
    next_line = started
    while True:
        try:
            opened = await attempt()
        except StorageUnavailableError as error:
            waited = time.monotonic() - started
            if waited >= seconds:
                message = f"{name} did not answer for {waited:.0f} s: {error.detail}"
                raise StorageUnavailableError(message) from error
            observer(f"waiting for {name}: {error.detail}")
            if time.monotonic() >= next_line:
                next_line += _LINE_SECONDS
                more = {"store": name, "seconds": round(waited), "reason": error.detail}
                log.warning("waiting for a store", extra=more)
        else:
            observer("")
            return opened
        await asyncio.sleep(_INTERVAL_SECONDS)
