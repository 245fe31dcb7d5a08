"""The networks of the service in this process, as a fallback. Needs the server's package."""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from aurum_client.errors import FAMILIES, Problem, ProblemError
from aurum_client.fallback import FaceOptions
from aurum_client.request import texts_of
from aurum_client.results.base import read
from aurum_client.results.faces import FacesResult

if TYPE_CHECKING:
    from gateway.types import Need

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
        """Load the newest version of each network, which takes a second or two.

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
            from gateway.errors import ConfigurationError
            from gateway.images import ImageLimits
            from gateway.inference.local import LocalEnsemble
        except ImportError as error:
            raise ImportError(_MISSING.format(name=error.name)) from error
        try:
            self._ensemble = LocalEnsemble(Path(model_repository))
        except ConfigurationError as error:
            raise ValueError(str(error)) from error
        self._limits = ImageLimits(max_image_bytes, max_image_megapixels)
        self._max_faces = max_faces
        self._scoring = scoring
        self._turn = threading.BoundedSemaphore(concurrency)

    def score(self, image: bytes, options: FaceOptions) -> FacesResult:
        """Rate the faces; raises FaceError if there is none, ImageError for a bad image."""
        from gateway.types import Need

        result = self._answer(image, options, Need.SCORE if self._scoring else Need.NOTHING_MORE)
        if not result.faces:
            raise _problem("no_face", "the image shows no face", result.request_id)
        return result

    def detect(self, image: bytes, options: FaceOptions) -> FacesResult:
        """Find the faces; raises ImageError for a bad image."""
        from gateway.types import Need

        return self._answer(image, options, Need.NOTHING_MORE)

    def embed(self, image: bytes, options: FaceOptions) -> FacesResult:
        """Embed the faces; raises ImageError for a bad image."""
        from gateway.types import Need

        return self._answer(image, options, Need.EMBEDDING)

    def _answer(self, image: bytes, options: FaceOptions, need: Need) -> FacesResult:
        from gateway.errors import AurumError

        request_id = uuid.uuid4().hex
        started = time.perf_counter()
        try:
            with self._turn:
                document = self._analyse(image, options, need, request_id, started)
        except AurumError as error:
            raise _problem(error.code, error.detail, request_id) from error
        return read(FacesResult, document)

    def _analyse(
        self, data: bytes, options: FaceOptions, need: Need, request_id: str, started: float
    ) -> Any:
        """Answer as the service's routes do, as JSON."""
        from gateway.api.context import dump_json
        from gateway.api.faces.schemas import FaceOptions as Given
        from gateway.api.faces.serializers import faces_out
        from gateway.errors import InvalidRequestError
        from gateway.images import check_image
        from gateway.pipeline import Result, Timings, rows_for, select
        from triton_python_backend.contract import Look
        from triton_python_backend.needs import need_for

        try:
            given = Given.model_validate(texts_of(options.query()))
        except ValueError as error:
            raise InvalidRequestError(str(error)) from error
        need |= need_for(given.include)
        image = check_image(data, self._limits)
        checked = time.perf_counter()
        most = given.max_faces or self._max_faces
        look = Look(max(most, self._max_faces), given.rotation, given.detail)
        analysis = self._ensemble.analyse(image.data, need, look)
        rows = rows_for(analysis, most, given.min_confidence)
        if rows > len(analysis.faces):
            analysis = self._ensemble.analyse(image.data, need, replace(look, max_faces=rows))
        ended = time.perf_counter()
        total_ms = (ended - started) * 1000
        result = Result(
            image,
            replace(analysis, faces=select(analysis.faces, most, given.min_confidence)),
            Timings((checked - started) * 1000, (ended - checked) * 1000, total_ms),
            cached=False,
            faces_found=sum(each >= given.min_confidence for each in analysis.confidences),
        )
        answer = faces_out(result, request_id=request_id, need=need, total_ms=total_ms)
        return json.loads(dump_json(answer))


def _problem(code: str, detail: str, request_id: str) -> ProblemError:
    from gateway.api.problems import PROBLEMS

    known = PROBLEMS[code]
    problem = Problem(code, known.status, known.title, detail, request_id)
    return FAMILIES.get(code, ProblemError)(problem)
