"""A deterministic engine whose answers follow from the image in closed form.

`photo(faces=n)` makes a real PNG, n in its top left pixel; the fake reads it back. Face k of n
has the box [10 k, 0, 10 k + 100 - k, 100 - k], the embedding e_(seed + k) and the score
1 + k + seed/10.
"""

import asyncio
import io
import time
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from gateway.deadline import Deadline
from gateway.errors import AurumError, InferenceUnavailableError, InvalidImageError
from gateway.types import (
    FALLBACK_ENGINE,
    ActiveVersions,
    Analysis,
    EngineStatus,
    Face,
    Need,
    Quality,
    StageStatus,
    StageVersion,
    Weights,
)
from triton_python_backend import contract
from triton_python_backend.contract import DEFAULT_LOOK, Look
from triton_python_backend.needs import networks_for

DIMENSION = 8
DETECTOR, SPACE, HEAD = (format(number, "016x") for number in (0xD, 0xE, 0xF))
GOOD = Quality(size=100, sharpness=0.7, brightness=0.5, yaw=0, pitch=0, roll=0)


def photo(
    *,
    faces: int = 1,
    seed: int = 0,
    size: tuple[int, int] = (200, 120),
    kind: str = "PNG",
    **save: Any,
) -> bytes:
    """Encode an image that the fake understands; lossless kinds only."""
    image = Image.new("RGB", size, (50, 60, 70))
    image.putpixel((0, 0), (faces, seed, 0))
    target = io.BytesIO()
    image.save(target, format=kind, **save)
    return target.getvalue()


def expected_face(index: int, seed: int, need: Need) -> Face:
    """Give the face that the fake answers with."""
    edge = 100 - index
    left = 10 * index
    embedding = np.zeros(DIMENSION, dtype=np.float32)
    embedding[(seed + index) % DIMENSION] = 1
    face = Face(
        box=(left, 0, left + edge, edge),
        landmarks=((left + 1, 1), (left + 3, 1), (left + 2, 2), (left + 1, 3), (left + 3, 3)),
        confidence=0.95 - index / 100,
        quality=GOOD,
    )
    return face.with_outputs(
        score=1 + index + seed / 10 if Need.SCORE in need else None,
        embedding=embedding if Need.EMBEDDING in need else None,
        crop=np.full((112, 112, 3), index, dtype=np.uint8) if Need.CROPS in need else None,
    )


class FakeInference:
    """`Inference` without a network. `error`, `seconds` and `ready` bend what it does."""

    def __init__(self, *, error: AurumError | None = None, seconds: float = 0) -> None:
        self.error = error
        self.seconds = seconds
        self.spaces: list[str] = []
        self.space = SPACE
        self.needs: list[Need] = []
        self.looks: list[Look] = []
        self.confidences: list[float] = []
        """Instead of the usual ones, where not empty."""
        self.active = 0
        self.started, self.idle = asyncio.Event(), asyncio.Event()
        self.most_active = 0
        self.closed = False
        self.cancelled = 0
        self.reachable = True
        self.unready: set[str] = set()
        self.obeys_deadlines = False
        """Whether it gives up at the deadline; otherwise it ends what it has begun."""
        self.seconds_left: list[float] = []

    async def analyse(
        self, image: bytes, *, need: Need, deadline: Deadline, look: Look = DEFAULT_LOOK
    ) -> Analysis:
        self.needs.append(need)
        self.looks.append(look)
        left = deadline.at - time.monotonic()
        self.seconds_left.append(left)
        self.active += 1
        self.started.set()
        self.idle.clear()
        self.most_active = max(self.most_active, self.active)
        try:
            await asyncio.sleep(min(self.seconds, left) if self.obeys_deadlines else self.seconds)
            if self.error is not None:
                raise self.error
            deadline.remaining_seconds()
            return self._analysis(image, need, look)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.active -= 1
            if not self.active:
                self.idle.set()

    def _analysis(self, image: bytes, need: Need, look: Look) -> Analysis:
        try:
            pixel: Any = Image.open(io.BytesIO(image)).convert("RGB").getpixel((0, 0))
            faces, seed, _ = pixel
        except (OSError, SyntaxError) as error:
            raise InvalidImageError(f"the image cannot be decoded: {error}") from error
        space = self.spaces.pop(0) if self.spaces else self.space
        everyone = tuple(expected_face(index, seed, need) for index in range(faces))
        if self.confidences:
            pairs = zip(everyone, self.confidences, strict=False)
            everyone = tuple(replace(face, confidence=sure) for face, sure in pairs)
        return Analysis(
            faces=everyone[: look.max_faces],
            beyond=tuple(face.confidence for face in everyone[look.max_faces :]),
            weights={stage: self._active(space)[stage] for stage in networks_for(need)},
        )

    @staticmethod
    def _active(space: str) -> ActiveVersions:
        ids = {"face_detection": DETECTOR, "face_embedding": space, "face_scoring": HEAD}
        return {stage: Weights(each, str(n)) for n, (stage, each) in enumerate(ids.items(), 1)}

    async def status(self, *, deadline: Deadline) -> EngineStatus:
        if not self.reachable:
            return EngineStatus(False, "fake: not there", ())
        return EngineStatus(True, "fake", await self.stages(deadline=deadline))

    async def stages(self, *, deadline: Deadline) -> tuple[StageStatus, ...]:
        if not self.reachable:
            raise InferenceUnavailableError("fake: not there", retry_after_seconds=2)
        ids = {"face_detection": DETECTOR, "face_embedding": self.space, "face_scoring": HEAD}
        return tuple(
            StageStatus(stage.name, (self._version(stage.name, ids.get(stage.name)),))
            for stage in contract.STAGES
        )

    def _version(self, stage: str, identifier: str | None) -> StageVersion:
        if stage in self.unready:
            return StageVersion("1", "UNAVAILABLE", "no weights")
        return StageVersion("1", "READY", "", identifier)

    async def in_service(self, *, deadline: Deadline) -> ActiveVersions:
        if not self.reachable:
            raise InferenceUnavailableError("fake: not there", retry_after_seconds=2)
        return self._active(self.space)

    async def close(self) -> None:
        self.closed = True


class FakeFallback(FakeInference):
    """`FallbackEngine` that answers as the fake does, under the name of the fallback."""

    pid: int | None = None

    def __init__(self, *, error: AurumError | None = None, seconds: float = 0) -> None:
        super().__init__(error=error, seconds=seconds)
        self.preferred: dict[str, Weights] = {}

    async def start(self, *, deadline: Deadline) -> None:
        pass

    def prefer(self, weights: ActiveVersions) -> None:
        self.preferred |= weights

    async def analyse(
        self, image: bytes, *, need: Need, deadline: Deadline, look: Look = DEFAULT_LOOK
    ) -> Analysis:
        found = await super().analyse(image, need=need, deadline=deadline, look=look)
        return replace(found, engine=FALLBACK_ENGINE)
