"""The order of the steps that answer a request: check, look up or infer, select."""

import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np

from gateway.cache.analyses import AnalysisCache, NoCache
from gateway.concurrency import AdmissionControl, CpuPool, SlowGate, run_together
from gateway.deadline import Deadline
from gateway.errors import (
    AurumError,
    ImageTooLargeError,
    InferenceUnavailableError,
    InvalidImageError,
    NoFaceError,
    UnsupportedMediaTypeError,
)
from gateway.images import ImageLimits, check_image
from gateway.inference.base import Inference
from gateway.rollout.plan import Candidate, RequestIdentity
from gateway.rollout.trials import Trials
from gateway.telemetry.metrics import Metrics
from gateway.types import (
    DEFAULT_TENANT,
    TRITON_ENGINE,
    Analysis,
    Asked,
    CheckedImage,
    Embedding,
    Face,
    Need,
)
from triton_python_backend.contract import DEFAULT_LOOK, MOST_FACES, Detail, Look, Rotation

_CHECKED_AT_ONCE_BYTES: Final = 256 * 1024
"""Up to this size, header and digest take less time than a switch to a thread and back."""

_TRIED_SHARE: Final = 0.5
"""The candidate's share of a request's time; then the active version answers."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which faces of an image are wanted: the largest ones above a confidence.

    max_faces: at most so many; None for the service's own number.
    """

    max_faces: int | None
    min_confidence: float
    rotation: Rotation = DEFAULT_LOOK.rotation
    detail: Detail = DEFAULT_LOOK.detail


@dataclass(frozen=True, slots=True)
class Timings:
    """Milliseconds by part."""

    validate: float
    inference: float
    total: float


@dataclass(frozen=True, slots=True)
class Result:
    """One image, its selected faces, and how many were found that are certain enough."""

    image: CheckedImage
    analysis: Analysis
    took_ms: Timings
    cached: bool
    faces_found: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two images and the cosine similarity, -1 to 1, of one face of each."""

    similarity: float
    a: Result
    b: Result
    face_a: Face
    face_b: Face


class Pipeline:
    """Checks images and has them analysed; `observe` gets each answer that was computed."""

    def __init__(
        self,
        inference: Inference,
        *,
        limits: ImageLimits,
        admission: AdmissionControl,
        slow: SlowGate | None = None,
        cpu_pool: CpuPool,
        metrics: Metrics,
        cache: AnalysisCache | None = None,
        trials: Trials | None = None,
        max_faces: int = DEFAULT_LOOK.max_faces,
        observe: Callable[[Analysis], None] = lambda _: None,
    ) -> None:
        self.inference = inference
        self._max_faces = max_faces
        self._trials = trials
        self._observe = observe
        self._cache = cache or NoCache()
        self._limits = limits
        self._admission = admission
        self._slow = slow or SlowGate(admission, at_once=1)
        self._cpu_pool = cpu_pool
        self._metrics = metrics

    async def run(
        self,
        data: bytes,
        *,
        need: Need,
        selection: Selection,
        deadline: Deadline,
        tenant: str = DEFAULT_TENANT,
        identity: RequestIdentity | None = None,
    ) -> Result:
        """Check and analyse one image, or take the cached answer.

        identity: for canary routing; None always uses the active version.

        Raises: as `check_image` and `Inference.analyse`; InferenceUnavailableError when too many
        wait already.
        """
        started = time.monotonic()
        if not self._cache.is_on:
            # no answer can be known: refuse before the image costs anything
            self._admission.check()
        check = partial(check_image, data, self._limits)
        if len(data) <= _CHECKED_AT_ONCE_BYTES:
            image = check()
        else:
            image = await self._cpu_pool.run(check, deadline=deadline)
        checked = time.monotonic()
        most = selection.max_faces or self._max_faces
        # a request for fewer faces than usual shares the usual answer
        look = Look(max(most, self._max_faces), selection.rotation, selection.detail)
        analyse = partial(self._analyse, image, tenant, identity, deadline)
        analysis, cached = await analyse(Asked(need, look))
        rows = rows_for(analysis, most, selection.min_confidence)
        if rows > len(analysis.faces):
            # too few of the large faces are certain enough: look at smaller ones, too
            analysis, cached = await analyse(Asked(need, replace(look, max_faces=rows)))
        ended = time.monotonic()
        return Result(
            image,
            replace(analysis, faces=select(analysis.faces, most, selection.min_confidence)),
            Timings(
                validate=(checked - started) * 1000,
                inference=(ended - checked) * 1000,
                total=(ended - started) * 1000,
            ),
            cached,
            sum(each >= selection.min_confidence for each in analysis.confidences),
        )

    async def _analyse(
        self,
        image: CheckedImage,
        tenant: str,
        identity: RequestIdentity | None,
        deadline: Deadline,
        asked: Asked,
    ) -> tuple[Analysis, bool]:
        """Have the candidate or the active version answer; the active one where it fails."""
        trials = self._trials if identity is not None else None
        candidate = trials.choose(identity, asked.need) if trials and identity else None
        find = partial(self._cache.get_or_compute, image.sha256, asked=asked, tenant=tenant)
        infer = partial(self._infer, image, asked, trials)
        if trials is None or candidate is None:
            return await find(infer, deadline=deadline)
        tried = partial(self._try, trials, candidate, image, asked)
        try:
            return await find(tried, deadline=deadline.part(_TRIED_SHARE), candidate=candidate)
        except AurumError as error:
            found = await find(infer, deadline=deadline)
            # an image that both versions refuse is not the candidate's fault, nor is it that
            # Triton is away
            if found[0].engine == TRITON_ENGINE:
                trials.blame(candidate, error)
            return found

    async def _infer(
        self, image: CheckedImage, asked: Asked, trials: Trials | None, deadline: Deadline
    ) -> Analysis:
        started = time.monotonic()
        async with self._turn(image, asked.look, deadline):
            analysis = await self.inference.analyse(
                image.data, need=asked.need, deadline=deadline, look=asked.look
            )
        seconds = time.monotonic() - started
        self._count(analysis, seconds)
        if trials is not None and analysis.engine == TRITON_ENGINE:
            trials.answered(image.data, asked, analysis, seconds)
        self._observe(analysis)
        return analysis

    async def _try(
        self,
        trials: Trials,
        candidate: Candidate,
        image: CheckedImage,
        asked: Asked,
        deadline: Deadline,
    ) -> Analysis:
        started = time.monotonic()
        async with self._turn(image, asked.look, deadline):
            analysis = await trials.analyse(candidate, image.data, asked=asked, deadline=deadline)
        self._count(analysis, time.monotonic() - started)
        return analysis

    @asynccontextmanager
    async def _turn(
        self, image: CheckedImage, look: Look, deadline: Deadline
    ) -> AsyncIterator[None]:
        if image.is_slow or look.detail == "high":
            async with self._slow.turn(deadline):
                yield
        else:
            with self._admission.take():
                yield

    def _count(self, analysis: Analysis, seconds: float) -> None:
        self._metrics.inference.labels(analysis.engine).observe(seconds)
        self._metrics.faces.inc(len(analysis.faces))

    async def compare(
        self,
        *,
        image_a: bytes,
        image_b: bytes,
        selection: Selection,
        deadline: Deadline,
        tenant: str = DEFAULT_TENANT,
        identity: RequestIdentity | None = None,
    ) -> Comparison:
        """Compare the selected faces of two images and return the most similar pair.

        One version analyses both images of an identity; identity as in `run`.

        Raises: as `run`, with the name of the image; NoFaceError where one shows no face.
        """
        run = partial(
            self._run_named,
            selection=selection,
            deadline=deadline,
            tenant=tenant,
        )
        # where the candidate failed on one image only, the active version analyses both
        for each in (identity, None):
            a, b = await _both(
                partial(run, "image_a", image_a, identity=each),
                partial(run, "image_b", image_b, identity=each),
            )
            if _space(a) == _space(b):
                similarity, face_a, face_b = most_alike(a.analysis.faces, b.analysis.faces)
                return Comparison(similarity, a, b, face_a, face_b)
        # embeddings of two spaces cannot be compared; a swap takes only a moment
        raise InferenceUnavailableError(
            "the embedding model is being exchanged", retry_after_seconds=1
        )

    async def _run_named(
        self,
        name: str,
        data: bytes,
        *,
        selection: Selection,
        deadline: Deadline,
        tenant: str,
        identity: RequestIdentity | None,
    ) -> Result:
        try:
            result = await self.run(
                data,
                need=Need.EMBEDDING,
                selection=selection,
                deadline=deadline,
                tenant=tenant,
                identity=identity,
            )
        except (ImageTooLargeError, InvalidImageError, UnsupportedMediaTypeError) as error:
            raise type(error)(f"{name}: {error.detail}") from error
        if not result.analysis.faces:
            message = f"{name} shows no face"
            raise NoFaceError(message)
        return result


def select(faces: tuple[Face, ...], most: int, min_confidence: float) -> tuple[Face, ...]:
    """Select the largest faces that are certain enough, in their order."""
    return tuple([face for face in faces if face.confidence >= min_confidence][:most])


def rows_for(analysis: Analysis, most: int, min_confidence: float) -> int:
    """Count the largest faces among which `most` are certain enough, or all that are."""
    certain = [row for row, each in enumerate(analysis.confidences) if each >= min_confidence]
    return min(certain[:most][-1] + 1, MOST_FACES) if certain else 0


def most_alike(of_a: Sequence[Face], of_b: Sequence[Face]) -> tuple[float, Face, Face]:
    """Return the highest cosine, -1 to 1, between faces of the two, and that pair."""
    vectors = [np.stack([_embedding(face) for face in faces]) for faces in (of_a, of_b)]
    cosines = np.clip(vectors[0] @ vectors[1].T, -1.0, 1.0)
    row, column = divmod(int(cosines.argmax()), len(of_b))
    return float(cosines[row, column]), of_a[row], of_b[column]


async def _both(
    first: Callable[[], Coroutine[Any, Any, Result]],
    second: Callable[[], Coroutine[Any, Any, Result]],
) -> tuple[Result, Result]:
    """Run both at once; the first error cancels the other and is raised."""
    a, b = await run_together([first(), second()])
    return a, b


def _space(result: Result) -> str | None:
    embedding = result.analysis.embedding
    return None if embedding is None else embedding.id


def _embedding(face: Face) -> Embedding:
    if face.embedding is None:
        raise ValueError("a face without its embedding cannot be compared")
    return face.embedding
