"""Has images analysed, and picks their faces to enrol or search for."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from gateway.concurrency import run_together
from gateway.deadline import Deadline
from gateway.errors import (
    AurumError,
    ImageTooLargeError,
    ImageUrlFailedError,
    ImageUrlRefusedError,
    InvalidImageError,
    LowQualityError,
    NoFaceError,
    SeveralFacesError,
    UnsupportedMediaTypeError,
)
from gateway.pipeline import Pipeline, Result, Selection
from gateway.types import Face, Need
from gateway.vectors.base import Vector

_IMAGES_AT_ONCE = 4
OF_ONE_IMAGE: Final = (
    ImageTooLargeError,
    ImageUrlFailedError,
    ImageUrlRefusedError,
    InvalidImageError,
    LowQualityError,
    NoFaceError,
    SeveralFacesError,
    UnsupportedMediaTypeError,
)
"""Errors that concern one image and do not stop the others."""


@dataclass(frozen=True, slots=True)
class NamedImage:
    """An encoded image and the name of its file, if it had one.

    failure: why there is no image, for one of many that could not be fetched.
    """

    data: bytes
    name: str | None
    failure: AurumError | None = None


class ImageAnalysis:
    """Analyses images as far as embeddings and crops."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    async def run_each(
        self,
        images: Sequence[NamedImage],
        selection: Selection,
        *,
        tenant: str,
        deadline: Deadline,
    ) -> list[Result | AurumError]:
        """Analyse images together; an error that concerns one of them stands in its place."""
        slots = asyncio.Semaphore(_IMAGES_AT_ONCE)

        async def analyse(image: NamedImage) -> Result | AurumError:
            if image.failure is not None:
                return image.failure
            async with slots:
                try:
                    return await self.run(image.data, selection, tenant=tenant, deadline=deadline)
                except OF_ONE_IMAGE as error:
                    return error

        return await run_together(analyse(image) for image in images)

    async def run(
        self, data: bytes, selection: Selection, *, tenant: str, deadline: Deadline
    ) -> Result:
        """Analyse an encoded image; raises as `Pipeline.run`."""
        return await self._pipeline.run(
            data,
            need=Need.EMBEDDING | Need.CROPS,
            selection=selection,
            deadline=deadline,
            tenant=tenant,
        )


def chosen_faces(result: Result, which: Literal["largest", "all", "single"]) -> tuple[Face, ...]:
    """Pick faces of an image; raises NoFaceError, or SeveralFacesError where there must be one."""
    faces = result.analysis.faces
    if not faces:
        raise NoFaceError("the image shows no face")
    if which == "single" and result.faces_found > 1:
        raise SeveralFacesError(f"the image shows {result.faces_found} faces instead of one")
    return faces if which == "all" else faces[:1]


def embedding_of(face: Face) -> Vector:
    """Return the embedding of a face: [D] float32."""
    if face.embedding is None:
        raise AurumError("inference answered without an embedding")
    return face.embedding


def space_of(result: Result) -> str:
    """Return the embedding space of the faces of an image."""
    if result.analysis.embedding is None:
        raise AurumError("inference answered without its space")
    return result.analysis.embedding.id
