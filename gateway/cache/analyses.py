"""AnalysisCache to images: looked up by the weights in service, kept by those that answered.

During a swap no answer of the old weights is found under the new ones, or the other way round:
what an answer says of itself decides where it is kept, and what is believed to be in service
decides where it is looked for.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cachetools import TTLCache

from gateway.cache import codec, keys
from gateway.cache.active_weights import ActiveWeights
from gateway.cache.base import Cache, CacheError
from gateway.cache.memory import MemoryCache
from gateway.cache.single_flight import SingleFlight
from gateway.rollout.plan import Candidate
from gateway.telemetry.metrics import Metrics
from gateway.types import Analysis, Asked, InService, Need
from triton_python_backend.contract import Look

log = logging.getLogger(__name__)

_ENGINE: Final = "triton"
"""Only its answers are kept."""
_LONGEST_REQUEST_SECONDS: Final = 300.0
_NOBODY: Final = InService(None, None, None)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of an image. `fields`: where an answer may lie, the exact one first."""

    image: str
    tenant: str
    asked: Asked
    weights: InService
    fields: tuple[str, ...]
    asked_at: float
    release: str
    """Whose answers these are: this release's, or those of a candidate that it tries."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer by its name in metrics."""

    name: str
    cache: Cache


class AnalysisCache:
    """The layers, first to last. Nothing here raises: what goes wrong is a miss."""

    def __init__(
        self,
        *,
        memory: MemoryCache,
        redis: Cache | None,
        active_weights: ActiveWeights,
        metrics: Metrics,
        release: str,
        max_entry_bytes: int,
    ) -> None:
        self._memory = memory
        self._layers = (Layer("memory", memory), *([Layer("redis", redis)] if redis else []))
        self._active_weights = active_weights
        self._metrics = metrics
        self._release = release
        self._max_entry_bytes = max_entry_bytes
        self._forgotten: TTLCache[str, float] = TTLCache(100_000, _LONGEST_REQUEST_SECONDS)
        self.last_health: dict[str, str | None] = {
            layer.name: "not asked yet" if layer.name == "redis" else None for layer in self._layers
        }
        """Why each layer did not answer when it was last asked; None where it did."""
        self.single_flight: SingleFlight[tuple[Analysis, bool]] = SingleFlight()

    def ask(
        self, image: str, *, asked: Asked, tenant: str, candidate: Candidate | None = None
    ) -> Question:
        """Put a question; it stays one of the weights believed to be in service now.

        A candidate's answers lie apart from all others, also where it carries the same ids.
        """
        weights = self._active_weights.now or _NOBODY
        release = self._release
        if candidate is not None:
            weights = candidate.among(weights)
            release = f"{release}~{candidate.plan.trial}"
        found = (
            keys.field(release=release, tenant=tenant, need=each, weights=weights, look=asked.look)
            for each in keys.sufficient(asked.need)
        )
        fields = tuple(field for field in found if field is not None)
        return Question(image, tenant, asked, weights, fields, time.monotonic(), release)

    async def find(self, question: Question) -> Analysis | None:
        """Return the answer that would be computed now, if some layer has it."""
        if not question.fields or question.weights.detection is None:
            return None
        for number, layer in enumerate(self._layers):
            found = await self._look(layer, question)
            if found is None:
                continue
            field, value, analysis = found
            for nearer in self._layers[:number]:
                await self._write(nearer, question.image, field, value)
            return analysis
        return None

    async def keep(self, question: Question, analysis: Analysis) -> None:
        """Keep an answer where its own ids say."""
        if question.release == self._release:
            self._active_weights.compare(analysis)
        made_by = InService(analysis.detection, analysis.embedding, analysis.scoring)
        field = keys.field(
            release=question.release,
            tenant=question.tenant,
            need=question.asked.need,
            weights=made_by,
            look=question.asked.look,
        )
        if field is None or analysis.engine != _ENGINE:
            return
        if self._forgotten.get(question.image, -1.0) >= question.asked_at:
            return
        value = codec.encode(
            analysis.faces,
            image=question.image,
            field=field,
            beyond=analysis.beyond,
            rotation=analysis.rotation,
        )
        for layer in self._layers:
            if len(value) > self._max_entry_bytes:
                self._metrics.cache_writes.labels(layer.name, "too_large").inc()
            else:
                await self._write(layer, question.image, field, value)

    async def forget_images(self, digests: Sequence[str]) -> int:
        """Drop all answers to these images; return how many lay in the fullest layer."""
        total = 0
        for image in digests:
            self._forgotten[image] = time.monotonic()
            counts = [0]
            for layer in self._layers:
                try:
                    counts.append(await layer.cache.forget(image))
                except CacheError as error:
                    reason = {"layer": layer.name, "reason": str(error)}
                    log.warning("cached answers are dropped later", extra=reason)
            total += max(counts)
        return total

    async def check(self) -> dict[str, str | None]:
        """Ask each layer for its health and return `last_health`."""
        self.last_health = {layer.name: await layer.cache.health() for layer in self._layers}
        return self.last_health

    async def close(self) -> None:
        """Cancel what is being computed and close the layers."""
        await self.single_flight.close()
        for layer in self._layers:
            await layer.cache.close()

    async def _look(self, layer: Layer, question: Question) -> tuple[str, bytes, Analysis] | None:
        lookups = self._metrics.cache_lookups
        try:
            kept = await layer.cache.get(question.image, question.fields)
        except CacheError as error:
            lookups.labels(layer.name, error.failure).inc()
            return None
        for field in question.fields:
            value = kept.get(field)
            if value is None:
                continue
            analysis = _read(value, question, field)
            if analysis is not None and not _holds_enough(analysis, question.asked.look):
                continue
            if analysis is not None:
                lookups.labels(layer.name, "hit").inc()
                self._metrics.cache_bytes.labels(layer.name, "read").inc(len(value))
                return field, value, analysis
            lookups.labels(layer.name, "malformed").inc()
        lookups.labels(layer.name, "miss").inc()
        return None

    async def _write(self, layer: Layer, image: str, field: str, value: bytes) -> None:
        writes = self._metrics.cache_writes
        try:
            await layer.cache.set(image, field, value)
        except CacheError as error:
            writes.labels(layer.name, error.failure).inc()
            return
        writes.labels(layer.name, "kept").inc()
        self._metrics.cache_bytes.labels(layer.name, "written").inc(len(value))
        self._metrics.cache_size.set(self._memory.size_bytes)


def _read(value: bytes, question: Question, field: str) -> Analysis | None:
    """Make the answer out of a value; None for one that is not sound."""
    weights, need = question.weights, question.asked.need
    if weights.detection is None or not codec.is_sound(value, image=question.image, field=field):
        return None
    try:
        kept = codec.decode(value, need=need)
    except codec.MalformedError:
        return None
    embedded = Need.EMBEDDING in need or Need.SCORE in need
    return Analysis(
        faces=kept.faces,
        detection=weights.detection,
        embedding=weights.embedding if embedded else None,
        scoring=weights.scoring if Need.SCORE in need else None,
        engine=_ENGINE,
        beyond=kept.beyond,
        rotation=kept.rotation,
    )


def _holds_enough(analysis: Analysis, look: Look) -> bool:
    """Whether the faces asked for are among those kept: all that were found, or so many."""
    return not analysis.beyond or len(analysis.faces) >= look.max_faces
