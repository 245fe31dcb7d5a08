# Generated from _async/keys.py by generate_sync.py; change it there.
"""API keys: what changes while they are used. An administrator makes and ends them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

from aurum_client._sync.base import Base
from aurum_client.request import Request, as_json, path_of
from aurum_client.results.keys import ApiKey


class Keys(Base):
    """The calls about API keys."""

    def update_key(self, key_id: str, *, limits: Mapping[str, Optional[int]]) -> ApiKey:
        """Change the limits that are given, by name; None lets the gateway's default apply.

        Args:
            key_id: the part of the key between its first underscores.
            limits: `requests_per_minute`, `burst`, `megapixels_per_minute`, `concurrent`.

        """
        path = path_of("admin", "keys", key_id)
        body = {"json": {"limits": dict(limits)}}
        return self._send(Request("PATCH", path, as_json(ApiKey), body=body))
