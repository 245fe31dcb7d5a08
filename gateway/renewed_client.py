"""Clients over gRPC that follow their certificates.

gRPC reads certificates once for a channel. So a client is opened anew when the files have changed,
and the one before is closed when its calls have ended.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

from gateway.concurrency import BackgroundTasks
from gateway.tls import ClientTls, Pem, TlsFiles

C = TypeVar("C")
_RETIRED_SECONDS: Final = 300.0
"""How long calls may go on with the client before: no call to Triton or Qdrant takes longer."""
_NOTHING: Final = Pem(None, None, {})


class RenewedClient(Generic[C]):
    """The client for the next call; use it within a running event loop."""

    def __init__(
        self,
        files: TlsFiles,
        make: Callable[[Pem], C],
        close: Callable[[C], Awaitable[None]],
        *,
        retired_seconds: float = _RETIRED_SECONDS,
    ) -> None:
        """Open a client of what the files contain; raises ConfigurationError."""
        self._tls = ClientTls(files) if any(files.named()) else None
        self._make = make
        self._close = close
        self._retired_seconds = retired_seconds
        self._retiring = BackgroundTasks()
        self._pem = _NOTHING if self._tls is None else self._tls.pem()
        self._client = make(self._pem)

    def now(self) -> C:
        """Return the client; a new one if the files have changed and can be used."""
        if self._tls is not None and (pem := self._tls.pem()) is not self._pem:
            before, self._client, self._pem = self._client, self._make(pem), pem
            self._retiring.detach("retired-client", self._retire(before))
        return self._client

    async def close(self) -> None:
        """Close all clients at once."""
        await self._retiring.close()
        await self._close(self._client)

    async def _retire(self, client: C) -> None:
        try:
            await asyncio.sleep(self._retired_seconds)
        finally:
            await self._close(client)
