"""What `LocalEngine` takes from the server's package; nothing else imports this module."""

from __future__ import annotations

import json
import threading
import time
import uuid
from dataclasses import replace
from pathlib import Path

from gateway.api.faces.schemas import FaceOptions as ServiceOptions
from gateway.api.faces.serializers import faces_out
from gateway.api.shapes import dump_json
from gateway.error_policy import POLICIES
from gateway.errors import AurumError, ConfigurationError, InvalidRequestError, NoFaceError
from gateway.images import ImageLimits, check_image
from gateway.inference.local import LocalEnsemble
from gateway.pipeline import Result, Timings, rows_for, select
from gateway.types import Need
from triton_python_backend.contract import Look
from triton_python_backend.needs import need_for

from aurum_client.errors import FAMILIES, Problem, ProblemError
from aurum_client.fallback import FaceOptions
from aurum_client.request import texts_of
from aurum_client.results.base import read
from aurum_client.results.faces import FacesResult


class Ensemble:
    """Answers as the service's routes do, with the same checks, networks and shapes."""

    def __init__(
        self,
        repository: Path,
        *,
        concurrency: int,
        max_faces: int,
        max_image_bytes: int,
        max_image_megapixels: float,
    ) -> None:
        """Load the networks; raises ValueError for a stage without one that loads."""
        try:
            self._networks = LocalEnsemble(repository)
        except ConfigurationError as error:
            raise ValueError(str(error)) from error
        self._limits = ImageLimits(max_image_bytes, max_image_megapixels)
        self._max_faces = max_faces
        self._turn = threading.BoundedSemaphore(concurrency)

    def answer(
        self,
        image: bytes,
        options: FaceOptions,
        *,
        score: bool = False,
        embed: bool = False,
        must_show_face: bool = False,
    ) -> FacesResult:
        """Analyse an image; raises the errors of the service's routes."""
        need = Need.NOTHING_MORE
        if score:
            need |= Need.SCORE
        if embed:
            need |= Need.EMBEDDING
        request_id = uuid.uuid4().hex
        try:
            with self._turn:
                result = self._analyse(image, options, need, request_id)
            if must_show_face and not result.faces:
                raise NoFaceError("the image shows no face")
        except AurumError as error:
            raise _refusal(error, request_id) from error
        return result

    def _analyse(
        self, data: bytes, options: FaceOptions, need: Need, request_id: str
    ) -> FacesResult:
        started = time.perf_counter()
        try:
            given = ServiceOptions.model_validate(texts_of(options.query()))
        except ValueError as error:
            raise InvalidRequestError(str(error)) from error
        need |= need_for(given.include)
        image = check_image(data, self._limits)
        checked = time.perf_counter()
        most = given.max_faces or self._max_faces
        look = Look(max(most, self._max_faces), given.rotation, given.detail)
        analysis = self._networks.analyse(image.data, need, look)
        rows = rows_for(analysis, most, given.min_confidence)
        if rows > len(analysis.faces):
            # too few of the large faces are certain enough: look at smaller ones, too
            analysis = self._networks.analyse(image.data, need, replace(look, max_faces=rows))
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
        return read(FacesResult, json.loads(dump_json(answer)))


def _refusal(error: AurumError, request_id: str) -> ProblemError:
    known = POLICIES[error.code]
    problem = Problem(error.code, known.status, known.title, error.detail, request_id)
    return FAMILIES.get(error.code, ProblemError)(problem)
