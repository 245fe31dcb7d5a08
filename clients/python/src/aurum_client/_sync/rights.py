# Generated from _async/rights.py by generate_sync.py; change it there.
"""People's rights: find a person in all collections, export, erase, do-not-enrol lists."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Optional

from aurum_client._sync.base import Base
from aurum_client.images import ImageSource, Picture
from aurum_client.limits import Deadline
from aurum_client.request import Request, as_json, form_body, path_of, texts_of
from aurum_client.results.rights import (
    ErasureReceipt,
    FoundPeople,
    RefusedFace,
    RefusedFaces,
    RefusedPage,
)
from aurum_client.waiting import read


class Rights(Base):
    """The calls about a person in all collections."""

    def find_people(
        self,
        image: Optional[ImageSource] = None,
        *,
        subject: Optional[str] = None,
        min_similarity: Optional[float] = None,
        limit: Optional[int] = None,
        min_confidence: Optional[float] = None,
        max_faces: Optional[int] = None,
        rotation: Optional[str] = None,
        detail: Optional[str] = None,
    ) -> FoundPeople:
        """Find a person in all collections by the largest face of an image, or by name.

        Args:
            image: a photo of the person.
            subject: name of the subject, instead of an image.
            min_similarity: lowest cosine similarity; None uses each collection's threshold.
            limit: most candidates of each collection.
            min_confidence: as for `embed`.
            max_faces: as for `embed`.
            rotation: as for `embed`.
            detail: as for `embed`.

        """
        deadline = Deadline.after(self._limits.total)
        fields = {
            "subject": subject,
            "min_similarity": min_similarity,
            "limit": limit,
            "min_confidence": min_confidence,
            "max_faces": max_faces,
            "rotation": rotation,
            "detail": detail,
        }
        pictures: list[tuple[str, Picture]] = []
        if image is not None:
            pictures.append(("image", read(image, deadline)))
        body = form_body(pictures, fields) if pictures else {"json": _given(fields)}
        path = path_of("subjects", "find")
        request = Request("POST", path, as_json(FoundPeople), body=body, is_read_only=True)
        return self._send(request, deadline)

    def export_people(
        self, people: Iterable[tuple[str, str]], *, embeddings: bool = False
    ) -> bytes:
        """Return a ZIP of what is stored about subjects, given as (collection, name)."""
        body = {"people": _targets(people), "embeddings": embeddings}
        path = path_of("subjects", "export")
        return self._send(
            Request("POST", path, lambda response: response.content, body={"json": body})
        )

    def erase_people(
        self,
        people: Iterable[tuple[str, str]],
        *,
        do_not_enrol: bool = False,
        reason: Optional[str] = None,
    ) -> ErasureReceipt:
        """Delete subjects, given as (collection, name), and all that is stored about them.

        do_not_enrol: put their faces on the lists of their collections first, with a reason.
        """
        fields = {"people": _targets(people), "do_not_enrol": do_not_enrol, "reason": reason}
        path = path_of("subjects", "erase")
        return self._send(
            Request("POST", path, as_json(ErasureReceipt), body={"json": _given(fields)})
        )

    def refuse_person(
        self,
        collection: str,
        image: Optional[ImageSource] = None,
        *,
        subject: Optional[str] = None,
        reason: Optional[str] = None,
        keep_crop: Optional[bool] = None,
        min_confidence: Optional[float] = None,
        max_faces: Optional[int] = None,
        rotation: Optional[str] = None,
        detail: Optional[str] = None,
    ) -> RefusedFaces:
        """Put the largest face of an image, or the faces of a subject, on the do-not-enrol list.

        Args:
            collection: its name.
            image: a photo of the person.
            subject: a subject of the collection, instead of an image.
            reason: kept with the entry.
            keep_crop: keep the aligned face, encrypted, for a newer embedding model.
            min_confidence: as for `embed`.
            max_faces: as for `embed`.
            rotation: as for `embed`.
            detail: as for `embed`.

        """
        deadline = Deadline.after(self._limits.total)
        fields = {
            "subject": subject,
            "reason": reason,
            "keep_crop": None if keep_crop is None else str(keep_crop).lower(),
            "min_confidence": min_confidence,
            "max_faces": max_faces,
            "rotation": rotation,
            "detail": detail,
        }
        path = path_of("collections", collection, "do-not-enrol")
        if image is None:
            body = {"json": _given({**fields, "keep_crop": keep_crop})}
        else:
            body = dict(form_body([("image", read(image, deadline))], fields))
        return self._send(Request("POST", path, as_json(RefusedFaces), body=body), deadline)

    def list_refused(
        self, collection: str, *, limit: Optional[int] = None, cursor: Optional[str] = None
    ) -> RefusedPage:
        """Return a page of the do-not-enrol list of a collection, oldest first."""
        query = texts_of({"limit": limit, "cursor": cursor})
        path = path_of("collections", collection, "do-not-enrol")
        return self._send(Request("GET", path, as_json(RefusedPage), query=query))

    def refused(self, collection: str, *, page_size: Optional[int] = None) -> Iterator[RefusedFace]:
        """Iterate over the do-not-enrol list of a collection, oldest first."""
        cursor = None
        while True:
            page = self.list_refused(collection, limit=page_size, cursor=cursor)
            yield from page.entries
            cursor = page.next_cursor
            if cursor is None:
                return

    def allow_person(self, collection: str, entry_id: str) -> RefusedFace:
        """Take a face off the do-not-enrol list; returns the entry."""
        path = path_of("collections", collection, "do-not-enrol", entry_id)
        return self._send(Request("DELETE", path, as_json(RefusedFace)))


def _targets(people: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"collection": collection, "subject": subject} for collection, subject in people]


def _given(fields: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}
