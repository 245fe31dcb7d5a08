# Generated from _async/faces.py by generate_sync.py; change it there.
"""Score, detect, embed, verify: one image, two, or many."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Optional

from aurum_client._sync.base import Base
from aurum_client.fallback import FaceOptions
from aurum_client.images import ImageSource
from aurum_client.limits import Deadline
from aurum_client.request import Request, as_json, form_body, path_of, texts_of
from aurum_client.results.faces import FacesResult, Verification
from aurum_client.waiting import Outcome, Source, map_images, read

_DEFAULTS = FaceOptions()


class Faces(Base):
    """The calls that analyse images. Their options are those of `FaceOptions`."""

    def score(
        self,
        image: ImageSource,
        *,
        include: Sequence[str] = (),
        max_faces: Optional[int] = None,
        min_confidence: Optional[float] = None,
        rotation: Optional[str] = None,
        detail: Optional[str] = None,
    ) -> FacesResult:
        """Rate the faces of an image; raises FaceError if it shows none."""
        options = FaceOptions(tuple(include), max_faces, min_confidence, rotation, detail)
        return self._analyse(image, "score", options)

    def detect(
        self,
        image: ImageSource,
        *,
        include: Sequence[str] = (),
        max_faces: Optional[int] = None,
        min_confidence: Optional[float] = None,
        rotation: Optional[str] = None,
        detail: Optional[str] = None,
    ) -> FacesResult:
        """Find the faces of an image; there may be none."""
        options = FaceOptions(tuple(include), max_faces, min_confidence, rotation, detail)
        return self._analyse(image, "detect", options)

    def embed(
        self,
        image: ImageSource,
        *,
        include: Sequence[str] = (),
        max_faces: Optional[int] = None,
        min_confidence: Optional[float] = None,
        rotation: Optional[str] = None,
        detail: Optional[str] = None,
    ) -> FacesResult:
        """Embed the faces of an image; there may be none. `models.space` names the space."""
        options = FaceOptions(tuple(include), max_faces, min_confidence, rotation, detail)
        return self._analyse(image, "embed", options)

    def score_many(
        self,
        images: Iterable[Source],
        *,
        concurrency: int = 8,
        options: FaceOptions = _DEFAULTS,
    ) -> Iterator[Outcome[Source]]:
        """Rate the faces of many images, so many at once.

        Yields in the order of the images, each outcome as soon as it and those before it are
        there. An image that fails has its error in the outcome. `images` may be endless.
        """
        work = partial(self._analyse, operation="score", options=options)
        return map_images(work, images, concurrency)

    def detect_many(
        self,
        images: Iterable[Source],
        *,
        concurrency: int = 8,
        options: FaceOptions = _DEFAULTS,
    ) -> Iterator[Outcome[Source]]:
        """Find the faces of many images, as `score_many`."""
        work = partial(self._analyse, operation="detect", options=options)
        return map_images(work, images, concurrency)

    def embed_many(
        self,
        images: Iterable[Source],
        *,
        concurrency: int = 8,
        options: FaceOptions = _DEFAULTS,
    ) -> Iterator[Outcome[Source]]:
        """Embed the faces of many images, as `score_many`."""
        work = partial(self._analyse, operation="embed", options=options)
        return map_images(work, images, concurrency)

    def verify(
        self,
        image_a: ImageSource,
        image_b: ImageSource,
        *,
        threshold: Optional[float] = None,
        target_fmr: Optional[float] = None,
        faces: Optional[str] = None,
        min_confidence: Optional[float] = None,
        max_faces: Optional[int] = None,
        rotation: Optional[str] = None,
        detail: Optional[str] = None,
    ) -> Verification:
        """Compare the largest faces of two images, or with faces="best" their most similar pair.

        Args:
            image_a: one image.
            image_b: the other one.
            threshold: cosine similarity from which the two are one person; None uses the one
                that the service has measured.
            target_fmr: instead of `threshold`: the share of pairs of different people that may
                match; needs a calibrated model.
            faces: `largest` or `best`.
            min_confidence: as for `embed`.
            max_faces: with faces="best", compare so many faces of each image.
            rotation: as for `embed`.
            detail: as for `embed`.

        Raises:
            FaceError: an image shows no face; the detail names it.

        """
        deadline = Deadline.after(self._limits.total)
        first = read(image_a, deadline)
        second = read(image_b, deadline)
        query = {
            "threshold": threshold,
            "target_fmr": target_fmr,
            "faces": faces,
            "min_confidence": min_confidence,
            "max_faces": max_faces,
            "rotation": rotation,
            "detail": detail,
        }
        request = Request(
            "POST",
            path_of("ml", "verify"),
            as_json(Verification),
            query=texts_of(query),
            body=form_body([("image_a", first), ("image_b", second)], {}),
            is_read_only=True,
        )
        return self._send(request, deadline)
