# Generated from _async/collections.py by generate_sync.py; change it there.
"""Collections: create, list, change, delete, cluster, move to another embedding space."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional, Union

from aurum_client._sync.base import Base
from aurum_client.request import Request, as_json, path_of, texts_of
from aurum_client.results.collections import (
    Cluster,
    ClusterPage,
    ClusterRun,
    Collection,
    CollectionPage,
    Receipt,
)
from aurum_client.unset import UNSET, Unset, given


class Collections(Base):
    """The calls about whole collections."""

    def create_collection(
        self,
        name: str,
        *,
        description: Union[str, Unset] = UNSET,
        keep: Union[str, Unset] = UNSET,
        quality: Union[str, Unset] = UNSET,
        retention_days: Union[float, Unset, None] = UNSET,
        match_threshold: Union[float, Unset, None] = UNSET,
        requires_consent: Union[bool, Unset] = UNSET,
    ) -> Collection:
        """Create a collection; raises ConflictError if it exists.

        Args:
            name: letters, digits, dots, hyphens, underscores.
            description: for people.
            keep: `crop` stores aligned faces, encrypted; `none` (default) stores none.
            quality: lowest quality of enrolled faces: `off`, `standard` (default), `strict`.
            retention_days: days after which an enrolled face is deleted; None keeps it.
            match_threshold: lowest cosine similarity of a match; None uses the service's.
            requires_consent: enrol nobody without a `consent`.

        """
        body = given(
            name=name,
            description=description,
            keep=keep,
            quality=quality,
            retention_days=retention_days,
            match_threshold=match_threshold,
            requires_consent=requires_consent,
        )
        path = path_of("collections")
        return self._send(Request("POST", path, as_json(Collection), body={"json": body}))

    def list_collections(
        self, *, limit: Optional[int] = None, cursor: Optional[str] = None
    ) -> CollectionPage:
        """Return a page of collections, sorted by name."""
        query = texts_of({"limit": limit, "cursor": cursor})
        path = path_of("collections")
        return self._send(Request("GET", path, as_json(CollectionPage), query=query))

    def collections(self, *, page_size: Optional[int] = None) -> Iterator[Collection]:
        """Iterate over all collections, sorted by name."""
        cursor = None
        while True:
            page = self.list_collections(limit=page_size, cursor=cursor)
            yield from page.collections
            cursor = page.next_cursor
            if cursor is None:
                return

    def get_collection(self, name: str) -> Collection:
        """Return a collection; raises NotFoundError."""
        path = path_of("collections", name)
        return self._send(Request("GET", path, as_json(Collection)))

    def update_collection(
        self,
        name: str,
        *,
        description: Union[str, Unset] = UNSET,
        keep: Union[str, Unset] = UNSET,
        quality: Union[str, Unset] = UNSET,
        retention_days: Union[float, Unset, None] = UNSET,
        match_threshold: Union[float, Unset, None] = UNSET,
        requires_consent: Union[bool, Unset] = UNSET,
    ) -> Collection:
        """Change the settings that are given; `keep="none"` deletes stored crops."""
        body = given(
            description=description,
            keep=keep,
            quality=quality,
            retention_days=retention_days,
            match_threshold=match_threshold,
            requires_consent=requires_consent,
        )
        path = path_of("collections", name)
        return self._send(Request("PATCH", path, as_json(Collection), body={"json": body}))

    def delete_collection(self, name: str) -> Receipt:
        """Delete a collection and everything in it."""
        path = path_of("collections", name)
        return self._send(Request("DELETE", path, as_json(Receipt)))

    def start_clusters(self, name: str, *, threshold: Optional[float] = None) -> ClusterRun:
        """Group the faces into identities, in the background; returns a run that is under way.

        threshold: lowest mean cosine similarity at which two groups are merged; None uses the
        collection's.
        """
        body = {} if threshold is None else {"threshold": threshold}
        path = path_of("collections", name, "clusters")
        return self._send(Request("POST", path, as_json(ClusterRun), body={"json": body}))

    def get_clusters(
        self, name: str, *, limit: Optional[int] = None, cursor: Optional[str] = None
    ) -> ClusterPage:
        """Return the latest run, and a page of the clusters of the latest finished one."""
        query = texts_of({"limit": limit, "cursor": cursor})
        path = path_of("collections", name, "clusters")
        return self._send(Request("GET", path, as_json(ClusterPage), query=query))

    def clusters(self, name: str, *, page_size: Optional[int] = None) -> Iterator[Cluster]:
        """Iterate over the clusters of the latest finished run."""
        cursor = None
        while True:
            page = self.get_clusters(name, limit=page_size, cursor=cursor)
            yield from page.clusters
            cursor = page.next_cursor
            if cursor is None:
                return

    def migrate_collection(self, name: str, *, action: Optional[str] = None) -> Collection:
        """Move to the newest embedding model: `start` (default), `rollback` or `finish`."""
        body = {} if action is None else {"action": action}
        path = path_of("collections", name, "migrate")
        return self._send(Request("POST", path, as_json(Collection), body={"json": body}))
