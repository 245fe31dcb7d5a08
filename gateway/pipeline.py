"""Rank 3: the order of things: check, look up, infer, keep, filter. It alone knows it."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np

from gateway.cache.answers import Answers, Question
from gateway.deadline import Deadline, Slots, Workers
from gateway.errors import (
    ImageTooLargeError,
    InferenceUnavailableError,
    InvalidImageError,
    NoFaceError,
    RequestTimeoutError,
    UnsupportedMediaTypeError,
)
from gateway.images import ImageLimits, check_image
from gateway.inference.base import Inference
from gateway.metrics import Metrics
from gateway.models import DEFAULT_TENANT, Analysis, CheckedImage, Face, Need

_SPACE_ATTEMPTS: Final = 2


@dataclass(frozen=True, slots=True)
class Selection:
    """Which faces of an image are wanted: at most so many, the largest, none less certain."""

    max_faces: int
    min_confidence: float


@dataclass(frozen=True, slots=True)
class Timings:
    """Milliseconds by part."""

    validate: float
    inference: float
    total: float


@dataclass(frozen=True, slots=True)
class Result:
    """One image and its selected faces."""

    image: CheckedImage
    analysis: Analysis
    took_ms: Timings
    cached: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two images and the cosine similarity, -1 to 1, of the largest face of each."""

    similarity: float
    a: Result
    b: Result


class Pipeline:
    """Checks images and has them analysed."""

    def __init__(
        self,
        inference: Inference,
        *,
        limits: ImageLimits,
        slots: Slots,
        workers: Workers,
        metrics: Metrics,
        answers: Answers | None = None,
    ) -> None:
        self.inference = inference
        self._answers = answers
        self._limits = limits
        self._slots = slots
        self._workers = workers
        self._metrics = metrics

    async def run(
        self,
        data: bytes,
        *,
        need: Need,
        selection: Selection,
        deadline: Deadline,
        tenant: str = DEFAULT_TENANT,
    ) -> Result:
        """Check and analyse one image, or take the answer that is known.

        Raises: as `check_image` and `Inference.analyse`; InferenceUnavailableError when too many
        wait already.
        """
        started = time.monotonic()
        image = await self._workers.run(partial(check_image, data, self._limits), deadline=deadline)
        checked = time.monotonic()
        with self._slots.take():
            if self._answers is None:
                analysis, cached = await self._infer(data, need, deadline), False
            else:
                question = self._answers.ask(image.sha256, need=need, tenant=tenant)
                analysis, cached = await self._share(self._answers, data, question, deadline)
        ended = time.monotonic()
        return Result(
            image,
            replace(analysis, faces=select(analysis.faces, selection)),
            Timings(
                validate=(checked - started) * 1000,
                inference=(ended - checked) * 1000,
                total=(ended - started) * 1000,
            ),
            cached,
        )

    async def _share(
        self, answers: Answers, data: bytes, question: Question, deadline: Deadline
    ) -> tuple[Analysis, bool]:
        """Join an identical request in flight, within the own deadline, or be the first."""
        # who asks after a swap does not join those who asked before
        key = (question.image, question.tenant, question.need, question.weights)
        while True:
            seconds = deadline.remaining_seconds()
            joins = answers.flights.has(key)
            if joins:
                self._metrics.shared_flights.inc()
            work = partial(self._look_up_or_infer, answers, data, question, deadline)
            try:
                async with asyncio.timeout(seconds):
                    return await answers.flights.share(key, work)
            except TimeoutError as error:
                raise RequestTimeoutError("inference did not answer within the deadline") from error
            except RequestTimeoutError:
                # the deadline of whoever came first; this request may have time left
                if not joins:
                    raise

    async def _look_up_or_infer(
        self, answers: Answers, data: bytes, question: Question, deadline: Deadline
    ) -> tuple[Analysis, bool]:
        known = await answers.find(question)
        if known is not None:
            return known, True
        analysis = await self._infer(data, question.need, deadline)
        await answers.keep(question, analysis)
        return analysis, False

    async def _infer(self, data: bytes, need: Need, deadline: Deadline) -> Analysis:
        started = time.monotonic()
        analysis = await self.inference.analyse(data, need=need, deadline=deadline)
        self._metrics.inference.labels(analysis.engine).observe(time.monotonic() - started)
        self._metrics.faces.inc(len(analysis.faces))
        return analysis

    async def compare(
        self,
        *,
        image_a: bytes,
        image_b: bytes,
        min_confidence: float,
        deadline: Deadline,
        tenant: str = DEFAULT_TENANT,
    ) -> Comparison:
        """Compare the largest face of each image.

        Raises: as `run`, with the name of the image; NoFaceError where one shows no face.
        """
        run = partial(
            self._run_named,
            selection=Selection(max_faces=1, min_confidence=min_confidence),
            deadline=deadline,
            tenant=tenant,
        )
        for _ in range(_SPACE_ATTEMPTS):
            a, b = await _both(partial(run, "image_a", image_a), partial(run, "image_b", image_b))
            if _space(a) == _space(b):
                return Comparison(_cosine(a.analysis.faces[0], b.analysis.faces[0]), a, b)
        # embeddings of two spaces say nothing about each other; a swap takes but a moment
        raise InferenceUnavailableError(
            "the embedding model is being exchanged", retry_after_seconds=1
        )

    async def _run_named(
        self, name: str, data: bytes, *, selection: Selection, deadline: Deadline, tenant: str
    ) -> Result:
        try:
            result = await self.run(
                data,
                need=Need.EMBEDDING,
                selection=selection,
                deadline=deadline,
                tenant=tenant,
            )
        except (ImageTooLargeError, InvalidImageError, UnsupportedMediaTypeError) as error:
            raise type(error)(f"{name}: {error.detail}") from error
        if not result.analysis.faces:
            message = f"{name} shows no face"
            raise NoFaceError(message)
        return result


def select(faces: tuple[Face, ...], selection: Selection) -> tuple[Face, ...]:
    """Keep the largest faces that are certain enough, in their order."""
    certain = [face for face in faces if face.confidence >= selection.min_confidence]
    return tuple(certain[: selection.max_faces])


async def _both(
    first: Callable[[], Awaitable[Result]], second: Callable[[], Awaitable[Result]]
) -> tuple[Result, Result]:
    """Run both at once; the first error of either cancels the other and is raised alone."""
    tasks = [asyncio.ensure_future(first()), asyncio.ensure_future(second())]
    try:
        a, b = await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return a, b


def _space(result: Result) -> str | None:
    embedding = result.analysis.embedding
    return None if embedding is None else embedding.id


def _cosine(a: Face, b: Face) -> float:
    if a.embedding is None or b.embedding is None:
        raise ValueError("a face without its embedding cannot be compared")
    return float(np.clip(np.dot(a.embedding, b.embedding), -1.0, 1.0))
