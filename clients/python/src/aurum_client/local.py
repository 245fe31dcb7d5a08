"""The networks of the service in this process, as a fallback. Needs the server's package."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Union

from aurum_client.fallback import FaceOptions
from aurum_client.results.faces import FacesResult

_MISSING = (
    "LocalEngine needs the server's package beside this client ({name} is missing): "
    "pip install 'aurum[gateway,models]'"
)


class LocalEngine:
    """A `Fallback` that runs the networks of a model repository, a few images at a time."""

    def __init__(
        self,
        model_repository: Union[str, os.PathLike[str]],
        *,
        concurrency: int = 2,
        max_faces: int = 32,
        max_image_bytes: int = 10 * 1024 * 1024,
        max_image_megapixels: float = 40.0,
        scoring: bool = True,
    ) -> None:
        """Load the newest version of each network, so that the first answer need not wait.

        Args:
            model_repository: folder with the stages, as the service uses it.
            concurrency: most images at once; further calls wait.
            max_faces: as the service's `AURUM_MAX_FACES`.
            max_image_bytes: as the service's `AURUM_MAX_IMAGE_BYTES`.
            max_image_megapixels: as the service's `AURUM_MAX_IMAGE_MEGAPIXELS`.
            scoring: False if the service runs with `AURUM_SCORING=off`.

        Raises:
            ImportError: the server's package is not installed.
            ValueError: the repository lacks a stage.

        """
        try:
            from aurum_client._ensemble import Ensemble
        except ImportError as error:
            raise ImportError(_MISSING.format(name=error.name)) from error
        self._ensemble = Ensemble(
            Path(model_repository),
            concurrency=concurrency,
            max_faces=max_faces,
            max_image_bytes=max_image_bytes,
            max_image_megapixels=max_image_megapixels,
        )
        self._scoring = scoring

    def score(self, image: bytes, options: FaceOptions) -> FacesResult:
        """Rate the faces; raises FaceError if there is none, ImageError for a bad image."""
        return self._ensemble.answer(image, options, score=self._scoring, must_show_face=True)

    def detect(self, image: bytes, options: FaceOptions) -> FacesResult:
        """Find the faces; raises ImageError for a bad image."""
        return self._ensemble.answer(image, options)

    def embed(self, image: bytes, options: FaceOptions) -> FacesResult:
        """Embed the faces; raises ImageError for a bad image."""
        return self._ensemble.answer(image, options, embed=True)
