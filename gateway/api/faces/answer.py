"""The answer to one image; the face routes give it, and jobs for each of their images."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

from gateway.api.faces.schemas import FaceOptions, FacesOut
from gateway.api.faces.serializers import faces_out
from gateway.concurrency import CpuPool
from gateway.deadline import Deadline
from gateway.errors import NoFaceError
from gateway.pipeline import Pipeline, Selection
from gateway.rollout.plan import RequestIdentity
from gateway.types import Need
from triton_python_backend.needs import need_for

FaceOperation = Literal["score", "detect", "embed"]

_NEEDS: Final[dict[FaceOperation, Need]] = {
    "score": Need.SCORE,
    "detect": Need.NOTHING_MORE,
    "embed": Need.EMBEDDING,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """The caller, the deadline, and what the answer repeats of the request.

    identity: for canary routing; None always uses the active version.
    elapsed_ms: gives the milliseconds since the request arrived.
    """

    request_id: str
    tenant: str
    deadline: Deadline
    elapsed_ms: Callable[[], float]
    identity: RequestIdentity | None = None


class FaceAnswers:
    """Answers score, detect and embed.

    scoring: whether `score` rates faces; it is a setting.
    """

    def __init__(self, pipeline: Pipeline, cpu_pool: CpuPool, *, scoring: bool) -> None:
        self._pipeline = pipeline
        self._cpu_pool = cpu_pool
        self._scoring = scoring

    async def answer(
        self, image: bytes, operation: FaceOperation, options: FaceOptions, asker: Asker
    ) -> FacesOut:
        """Answer one image. Raises as `Pipeline.run`; NoFaceError if `score` finds no face."""
        need = _NEEDS[operation]
        if not self._scoring:
            need &= ~Need.SCORE
        need |= need_for(options.include)
        result = await self._pipeline.run(
            image,
            need=need,
            selection=Selection(
                options.max_faces, options.min_confidence, options.rotation, options.detail
            ),
            deadline=asker.deadline,
            tenant=asker.tenant,
            identity=asker.identity,
        )
        if operation == "score" and not result.analysis.faces:
            raise NoFaceError("the image shows no face")
        shape = partial(
            faces_out,
            result,
            request_id=asker.request_id,
            need=need,
            total_ms=asker.elapsed_ms(),
        )
        # encoding many PNGs would block the event loop
        if Need.CROPS in need:
            return await self._cpu_pool.run(shape, deadline=asker.deadline)
        return shape()
