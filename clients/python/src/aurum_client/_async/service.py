"""The service itself: health, metrics, models."""

from __future__ import annotations

from aurum_client._async.base import LIVE, READY, AsyncBase
from aurum_client.request import Request, as_json, path_of
from aurum_client.results.service import Candidate, Liveness, Readiness, Stages


class AsyncService(AsyncBase):
    """The calls about the service."""

    async def live(self) -> Liveness:
        """Check that the process answers."""
        return await self._send(LIVE)

    async def ready(self) -> Readiness:
        """Report the components; a service that is not ready is a result, not an error."""
        return await self._send(READY)

    async def metrics(self) -> str:
        """Return the metrics in Prometheus' text format."""
        return await self._send(Request("GET", "/metrics", lambda response: response.text))

    async def models(self) -> Stages:
        """List the stages and their versions."""
        return await self._send(Request("GET", path_of("ml", "models"), as_json(Stages)))

    async def candidate(self) -> Candidate:
        """Show the version on trial beside the one in service."""
        path = path_of("ml", "models", "candidate")
        return await self._send(Request("GET", path, as_json(Candidate)))
