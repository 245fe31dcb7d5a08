# Generated from _async/service.py by generate_sync.py; change it there.
"""The service itself: health, metrics, models."""

from __future__ import annotations

from aurum_client._sync.base import LIVE, READY, Base
from aurum_client.request import Request, as_json, path_of
from aurum_client.results.service import Candidate, Liveness, Readiness, Stages


class Service(Base):
    """The calls about the service."""

    def live(self) -> Liveness:
        """Check that the process answers."""
        return self._send(LIVE)

    def ready(self) -> Readiness:
        """Report the components; a service that is not ready is a result, not an error."""
        return self._send(READY)

    def metrics(self) -> str:
        """Return the metrics in Prometheus' text format."""
        return self._send(Request("GET", "/metrics", lambda response: response.text))

    def models(self) -> Stages:
        """List the stages and their versions."""
        return self._send(Request("GET", path_of("ml", "models"), as_json(Stages)))

    def candidate(self) -> Candidate:
        """Show the version on trial beside the one in service."""
        path = path_of("ml", "models", "candidate")
        return self._send(Request("GET", path, as_json(Candidate)))
