"""Lookups of names: those that get no answer hold up no other caller.

A thread that asks cannot be stopped: the system goes on for many seconds after the caller has given
up. So a place is held until the thread has ended, and each tenant, or each host where there is no
tenant, has a few places only.
"""

import asyncio
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, Protocol

from gateway.outbound.slots import FairSlots

_AT_ONCE: Final = 32
_EACH: Final = 8
"""Threads; of a tenant that fetches 16 images at a time, half are looked up at a time."""
_WAIT_SECONDS: Final = 5.0
"""Longest wait for a place, so that lookups that hang do not make callers wait for ever."""
_asking: ContextVar[str] = ContextVar("asking", default="")


class Lookup(Protocol):
    """Asks the name servers."""

    async def addresses(self, host: str) -> list[str]:
        """Return the addresses of a name; empty if it has none, OSError if nobody answers."""
        ...

    def close(self) -> None:
        """Stop asking."""
        ...


@contextmanager
def looking_up_for(tenant: str) -> Iterator[None]:
    """Let names be looked up in the places of a tenant until the end of the block."""
    token = _asking.set(tenant)
    try:
        yield
    finally:
        _asking.reset(token)


class SystemLookup:
    """Asks as the system is configured, in threads of its own: others never wait for a name."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="names")
        self._places = FairSlots(total=_AT_ONCE, each=_EACH)

    async def addresses(self, host: str) -> list[str]:
        """See `Lookup.addresses`; TimeoutError, an OSError, if no place becomes free."""
        asking = _asking.get() or host
        async with asyncio.timeout(_WAIT_SECONDS):
            await self._places.acquire(asking)

        def ended(asked: asyncio.Future[list[str]]) -> None:
            self._places.release(asking)
            if not asked.cancelled():
                # looked at, as the caller may have given up
                asked.exception()

        try:
            loop = asyncio.get_running_loop()
            asked = loop.run_in_executor(self._threads, _look_up, host)
        except RuntimeError:
            self._places.release(asking)
            raise
        asked.add_done_callback(ended)
        # not cancelled with its caller: the thread goes on, and so the place stays taken
        return await asyncio.shield(asked)

    def close(self) -> None:
        """See `Lookup.close`."""
        # a thread that waits for a name server is not waited for
        self._threads.shutdown(wait=False, cancel_futures=True)


def _look_up(host: str) -> list[str]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    except socket.gaierror as error:
        if error.errno == socket.EAI_AGAIN:
            raise
        return []
    except UnicodeError:
        return []
    return [str(sockaddr[0]) for _, _, _, _, sockaddr in found]
