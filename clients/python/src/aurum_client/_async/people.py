"""People in a collection: enrol, search, list, change, delete."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Optional, Union

from aurum_client._async.base import AsyncBase
from aurum_client.enrolling import FaceEmbedding, embedding_search, embeddings_body, read_pictures
from aurum_client.images import ImageSource
from aurum_client.limits import Deadline
from aurum_client.request import Request, as_json, form_body, new_key, path_of, texts_of
from aurum_client.results.collections import (
    Enrolment,
    FacePage,
    FaceRecord,
    Receipt,
    SearchResult,
    Subject,
    SubjectPage,
)
from aurum_client.unset import UNSET, Unset, given
from aurum_client.waiting import async_call, async_read


class AsyncPeople(AsyncBase):
    """The calls about enrolled faces and subjects."""

    async def enrol(
        self,
        collection: str,
        images: Union[ImageSource, Sequence[ImageSource]],
        *,
        subject: Optional[str] = None,
        faces: Optional[str] = None,
        quality: Optional[str] = None,
        metadata: Optional[Mapping[str, Any]] = None,
        consent: Optional[Mapping[str, Any]] = None,
        purpose: Optional[str] = None,
        min_confidence: Optional[float] = None,
        max_faces: Optional[int] = None,
        rotation: Optional[str] = None,
        detail: Optional[str] = None,
        idempotency_key: Optional[str] = None,
    ) -> Enrolment:
        """Enrol the faces of one or several images.

        Args:
            collection: its name.
            images: one image or a list.
            subject: who it is; without it each face is a subject of its own.
            faces: `largest` (default), `all`, or `single`, which refuses images with several.
            quality: lowest quality, instead of the collection's.
            metadata: flat object of strings, numbers and booleans.
            consent: what the subject has agreed to: `reference`, `given_at` (ISO 8601), and
                `expires_at` if it ends; kept with the subject.
            purpose: why the subject is enrolled; kept with the subject.
            min_confidence: as for `embed`.
            max_faces: with faces="all", most faces of an image.
            rotation: as for `embed`.
            detail: as for `embed`.
            idempotency_key: makes a repeated call return the first answer, for a day; made for
                each call, so that its retries enrol once.

        Raises:
            FaceError, ImageError: every image was refused; this is why the first was.
            EnrolmentRefusedError: the collection does not enrol this person, or needs a consent.

        """
        deadline = Deadline.after(self._limits.total)
        pictures = await async_call(partial(read_pictures, images), deadline)
        fields = {
            "subject": subject,
            "faces": faces,
            "quality": quality,
            "metadata": metadata,
            "consent": consent,
            "purpose": purpose,
            "min_confidence": min_confidence,
            "max_faces": max_faces,
            "rotation": rotation,
            "detail": detail,
        }
        request = Request(
            "POST",
            path_of("collections", collection, "faces"),
            as_json(Enrolment),
            body=form_body(pictures, fields),
            idempotency_key=idempotency_key or new_key(),
        )
        return await self._send(request, deadline)

    async def enrol_embeddings(
        self,
        collection: str,
        embeddings: Iterable[FaceEmbedding],
        *,
        space: str,
        subject: Optional[str] = None,
        metadata: Optional[Mapping[str, Any]] = None,
        consent: Optional[Mapping[str, Any]] = None,
        purpose: Optional[str] = None,
        idempotency_key: Optional[str] = None,
    ) -> Enrolment:
        """Enrol faces that were embedded before, in this space; other arguments as `enrol`."""
        body = embeddings_body(
            embeddings,
            space=space,
            subject=subject,
            metadata=metadata,
            consent=consent,
            purpose=purpose,
        )
        request = Request(
            "POST",
            path_of("collections", collection, "faces"),
            as_json(Enrolment),
            body={"json": body},
            idempotency_key=idempotency_key or new_key(),
        )
        return await self._send(request)

    async def search(
        self,
        collection: str,
        image: ImageSource,
        *,
        faces: Optional[str] = None,
        limit: Optional[int] = None,
        min_similarity: Optional[float] = None,
        target_fmr: Optional[float] = None,
        group_by: Optional[str] = None,
        subject: Optional[str] = None,
        filter: Optional[Mapping[str, Any]] = None,
        min_confidence: Optional[float] = None,
        max_faces: Optional[int] = None,
        rotation: Optional[str] = None,
        detail: Optional[str] = None,
    ) -> SearchResult:
        """Find the people most similar to the faces of an image.

        Args:
            collection: its name.
            image: the probe.
            faces: `largest` (default) or `all`.
            limit: most matches of a face, 10 by default.
            min_similarity: lowest cosine similarity; None uses the collection's threshold.
            target_fmr: instead of `min_similarity`: the wanted rate of false matches.
            group_by: `subject` (default): the best face of each; `face`: every face.
            subject: search among the faces of this subject only.
            filter: metadata that a matching face must have, all of it.
            min_confidence: as for `embed`.
            max_faces: with faces="all", most faces of the image.
            rotation: as for `embed`.
            detail: as for `embed`.

        """
        deadline = Deadline.after(self._limits.total)
        picture = await async_read(image, deadline)
        fields = {
            "faces": faces,
            "limit": limit,
            "min_similarity": min_similarity,
            "target_fmr": target_fmr,
            "group_by": group_by,
            "subject": subject,
            "filter": filter,
            "min_confidence": min_confidence,
            "max_faces": max_faces,
            "rotation": rotation,
            "detail": detail,
        }
        request = Request(
            "POST",
            path_of("collections", collection, "search"),
            as_json(SearchResult),
            body=form_body([("image", picture)], fields),
            is_read_only=True,
        )
        return await self._send(request, deadline)

    async def search_embedding(
        self,
        collection: str,
        embedding: Iterable[float],
        *,
        space: str,
        limit: Optional[int] = None,
        min_similarity: Optional[float] = None,
        target_fmr: Optional[float] = None,
        group_by: Optional[str] = None,
        subject: Optional[str] = None,
        filter: Optional[Mapping[str, Any]] = None,
    ) -> SearchResult:
        """Find the people most similar to an embedding of this space; arguments as `search`."""
        body = embedding_search(
            embedding,
            space=space,
            limit=limit,
            min_similarity=min_similarity,
            target_fmr=target_fmr,
            group_by=group_by,
            subject=subject,
            filter=filter,
        )
        request = Request(
            "POST",
            path_of("collections", collection, "search"),
            as_json(SearchResult),
            body={"json": body},
            is_read_only=True,
        )
        return await self._send(request)

    async def list_faces(
        self,
        collection: str,
        *,
        subject: Optional[str] = None,
        limit: Optional[int] = None,
        cursor: Optional[str] = None,
    ) -> FacePage:
        """Return a page of enrolled faces, oldest first."""
        query = texts_of({"subject": subject, "limit": limit, "cursor": cursor})
        path = path_of("collections", collection, "faces")
        return await self._send(Request("GET", path, as_json(FacePage), query=query))

    async def faces(
        self, collection: str, *, subject: Optional[str] = None, page_size: Optional[int] = None
    ) -> AsyncIterator[FaceRecord]:
        """Iterate over the enrolled faces of a collection or subject, oldest first."""
        cursor = None
        while True:
            page = await self.list_faces(
                collection, subject=subject, limit=page_size, cursor=cursor
            )
            for face in page.faces:
                yield face
            cursor = page.next_cursor
            if cursor is None:
                return

    async def delete_face(self, collection: str, face_id: str) -> Receipt:
        """Delete a face."""
        path = path_of("collections", collection, "faces", face_id)
        return await self._send(Request("DELETE", path, as_json(Receipt)))

    async def get_crop(self, collection: str, face_id: str) -> bytes:
        """Return the stored aligned face as a PNG; raises NotFoundError where none is kept."""
        path = path_of("collections", collection, "faces", face_id, "crop")
        return await self._send(Request("GET", path, lambda response: response.content))

    async def list_subjects(
        self,
        collection: str,
        *,
        q: Optional[str] = None,
        limit: Optional[int] = None,
        cursor: Optional[str] = None,
    ) -> SubjectPage:
        """Return a page of subjects, sorted by name; q: words in names and external ids."""
        query = texts_of({"q": q, "limit": limit, "cursor": cursor})
        path = path_of("collections", collection, "subjects")
        return await self._send(Request("GET", path, as_json(SubjectPage), query=query))

    async def subjects(
        self, collection: str, *, q: Optional[str] = None, page_size: Optional[int] = None
    ) -> AsyncIterator[Subject]:
        """Iterate over the subjects, sorted by name; q: words in names and external ids."""
        cursor = None
        while True:
            page = await self.list_subjects(collection, q=q, limit=page_size, cursor=cursor)
            for subject in page.subjects:
                yield subject
            cursor = page.next_cursor
            if cursor is None:
                return

    async def get_subject(self, collection: str, subject: str) -> Subject:
        """Return a subject; raises NotFoundError."""
        path = path_of("collections", collection, "subjects", subject)
        return await self._send(Request("GET", path, as_json(Subject)))

    async def update_subject(
        self,
        collection: str,
        subject: str,
        *,
        display_name: Union[str, Unset, None] = UNSET,
        external_id: Union[str, Unset, None] = UNSET,
        metadata: Union[Mapping[str, Any], Unset] = UNSET,
        consent: Union[Mapping[str, Any], Unset, None] = UNSET,
        purpose: Union[str, Unset, None] = UNSET,
    ) -> Subject:
        """Change the fields that are given; None removes a text, `metadata` is replaced.

        consent: as for `enrol`; with `withdrawn_at` it ends, and the faces expire.
        """
        body = given(
            display_name=display_name,
            external_id=external_id,
            metadata=metadata,
            consent=consent,
            purpose=purpose,
        )
        path = path_of("collections", collection, "subjects", subject)
        return await self._send(Request("PATCH", path, as_json(Subject), body={"json": body}))

    async def delete_subject(self, collection: str, subject: str) -> Receipt:
        """Delete a subject and all its faces."""
        path = path_of("collections", collection, "subjects", subject)
        return await self._send(Request("DELETE", path, as_json(Receipt)))
