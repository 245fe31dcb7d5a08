# Generated from _async/client.py by generate_sync.py; change it there.
"""The client."""

from __future__ import annotations

from aurum_client._sync.collections import Collections
from aurum_client._sync.faces import Faces
from aurum_client._sync.jobs import Jobs
from aurum_client._sync.keys import Keys
from aurum_client._sync.people import People
from aurum_client._sync.rights import Rights
from aurum_client._sync.service import Service


class AurumClient(Faces, Collections, People, Rights, Keys, Service):
    """Asks an Aurum face service.

    Connections are reused, so make one client and share it among threads. All calls raise the
    errors of `aurum_client.errors`.
    """

    @property
    def jobs(self) -> Jobs:
        """The calls about jobs of many images."""
        return Jobs(self)
