"""The client."""

from __future__ import annotations

from aurum_client._async.collections import AsyncCollections
from aurum_client._async.faces import AsyncFaces
from aurum_client._async.jobs import AsyncJobs
from aurum_client._async.keys import AsyncKeys
from aurum_client._async.people import AsyncPeople
from aurum_client._async.rights import AsyncRights
from aurum_client._async.service import AsyncService


class AsyncAurumClient(
    AsyncFaces, AsyncCollections, AsyncPeople, AsyncRights, AsyncKeys, AsyncService
):
    """Asks an Aurum face service, within asyncio.

    Connections are reused, so make one client and share it among tasks. All calls raise the
    errors of `aurum_client.errors`.
    """

    @property
    def jobs(self) -> AsyncJobs:
        """The calls about jobs of many images."""
        return AsyncJobs(self)
