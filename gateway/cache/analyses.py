"""Analyses of images: looked up by the active weights, kept by the weights that made them.

During a swap no answer of the old weights is found under the new ones, or the other way round: the
ids in an answer decide where it is kept, and the weights known to be active decide where to look.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Final

from cachetools import TTLCache

from gateway.cache import codec, keys
from gateway.cache.active_weights import ActiveWeights
from gateway.cache.base import Cache, CacheError
from gateway.cache.memory import MemoryCache
from gateway.cache.single_flight import SingleFlight
from gateway.deadline import Deadline
from gateway.errors import RequestTimeoutError
from gateway.rollout.plan import Candidate
from gateway.telemetry.metrics import Metrics
from gateway.types import FALLBACK_ENGINE, TRITON_ENGINE, ActiveVersions, Analysis, Asked
from triton_python_backend.contract import DETECTION, Look
from triton_python_backend.needs import networks_for

log = logging.getLogger(__name__)

Compute = Callable[[Deadline], Awaitable[Analysis]]
"""Has an image analysed within a deadline."""

_KEPT: Final = frozenset({TRITON_ENGINE, FALLBACK_ENGINE})
"""Engines whose answers are kept, under the weights that made them."""
_LONGEST_REQUEST_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of an image. `fields`: where an answer may lie, the exact one first."""

    image: str
    tenant: str
    asked: Asked
    weights: ActiveVersions
    fields: tuple[str, ...]
    asked_at: float
    release: str
    """This release, or a candidate that it has on trial."""

    @property
    def entry(self) -> str:
        """Name of the entry of its image and tenant."""
        return keys.entry_name(self.image, self.tenant)

    @property
    def key(self) -> Hashable:
        """Equal for requests that get the same answer: not across a swap or a trial."""
        weights = tuple(self.weights.items())
        return self.image, self.tenant, self.asked, weights, self.release


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer by its name in metrics."""

    name: str
    cache: Cache


class NoCache:
    """In the place of an `AnalysisCache` where caching is off: computes every answer."""

    is_on = False

    async def get_or_compute(
        self,
        image: str,
        compute: Compute,
        *,
        asked: Asked,
        tenant: str,
        deadline: Deadline,
        candidate: Candidate | None = None,
    ) -> tuple[Analysis, bool]:
        """See `AnalysisCache.get_or_compute`."""
        return await compute(deadline), False


class AnalysisCache:
    """The layers, first to last. A layer that fails is a miss."""

    is_on = True

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
        self._single_flight: SingleFlight[tuple[Analysis, bool]] = SingleFlight()

    async def get_or_compute(
        self,
        image: str,
        compute: Compute,
        *,
        asked: Asked,
        tenant: str,
        deadline: Deadline,
        candidate: Candidate | None = None,
    ) -> tuple[Analysis, bool]:
        """Return the answer that a layer has, or compute and keep it.

        Identical requests in flight share one lookup and one computation, each within its own
        deadline.

        Args:
            image: SHA-256 of its bytes, hexadecimal.
            compute: called with the deadline of the request that came first.
            asked: what is asked of the image.
            tenant: answers are shared within a tenant.
            deadline: of this request.
            candidate: the version on trial that shall answer; None: the active one.

        Returns:
            The answer, and whether it was cached.

        Raises:
            RequestTimeoutError: the deadline passed. Otherwise as `compute`.
        """
        question = self.ask(image, asked=asked, tenant=tenant, candidate=candidate)
        key = question.key
        while True:
            seconds = deadline.remaining_seconds()
            joins = self._single_flight.has(key)
            if joins:
                self._metrics.shared_flights.inc()
            try:
                async with asyncio.timeout(seconds):
                    return await self._single_flight.share(
                        key, lambda: self._find_or_compute(question, compute, deadline)
                    )
            except TimeoutError as error:
                raise RequestTimeoutError("inference did not answer within the deadline") from error
            except RequestTimeoutError:
                # the deadline of the request that came first; this one may have time left
                if not joins:
                    raise

    async def _find_or_compute(
        self, question: Question, compute: Compute, deadline: Deadline
    ) -> tuple[Analysis, bool]:
        known = await self.find(question)
        if known is not None:
            return known, True
        analysis = await compute(deadline)
        await self.keep(question, analysis)
        return analysis, False

    def ask(
        self, image: str, *, asked: Asked, tenant: str, candidate: Candidate | None = None
    ) -> Question:
        """Make a question about the weights that are known to be active now.

        A candidate's answers are kept apart from all others, even if it carries the same ids.
        """
        weights = self._active_weights.now or {}
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
        """Return the answer that would be computed now, if a layer has it."""
        if not question.fields or DETECTION.name not in question.weights:
            return None
        for number, layer in enumerate(self._layers):
            found = await self._look(layer, question)
            if found is None:
                continue
            field, value, analysis = found
            for nearer in self._layers[:number]:
                await self._write(nearer, question.entry, field, value)
            return analysis
        return None

    async def keep(self, question: Question, analysis: Analysis) -> None:
        """Keep an answer where its own ids place it."""
        if question.release == self._release:
            self._active_weights.compare(analysis)
        field = keys.field(
            release=question.release,
            tenant=question.tenant,
            need=question.asked.need,
            weights=analysis.weights,
            look=question.asked.look,
        )
        if field is None or analysis.engine not in _KEPT:
            return
        if self._forgotten.get(question.entry, -1.0) >= question.asked_at:
            return
        value = codec.encode(
            analysis.faces,
            image=question.image,
            field=field,
            beyond=analysis.beyond,
            rotation=analysis.rotation,
            engine=analysis.engine,
        )
        for layer in self._layers:
            if len(value) > self._max_entry_bytes:
                self._metrics.cache_writes.labels(layer.name, "too_large").inc()
            else:
                await self._write(layer, question.entry, field, value)

    async def forget_images(self, digests: Sequence[str], *, tenant: str) -> int:
        """Drop a tenant's answers to these images; return how many lay in the fullest layer."""
        total = 0
        for entry in (keys.entry_name(image, tenant) for image in digests):
            self._forgotten[entry] = time.monotonic()
            counts = [0]
            for layer in self._layers:
                try:
                    counts.append(await layer.cache.forget(entry))
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
        await self._single_flight.close()
        for layer in self._layers:
            await layer.cache.close()

    async def _look(self, layer: Layer, question: Question) -> tuple[str, bytes, Analysis] | None:
        lookups = self._metrics.cache_lookups
        try:
            kept = await layer.cache.get(question.entry, question.fields)
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

    async def _write(self, layer: Layer, entry: str, field: str, value: bytes) -> None:
        writes = self._metrics.cache_writes
        try:
            await layer.cache.set(entry, field, value)
        except CacheError as error:
            writes.labels(layer.name, error.failure).inc()
            return
        writes.labels(layer.name, "kept").inc()
        self._metrics.cache_bytes.labels(layer.name, "written").inc(len(value))
        self._metrics.cache_size.set(self._memory.size_bytes)


def _read(value: bytes, question: Question, field: str) -> Analysis | None:
    """Read the answer in a value; None if the value is not sound."""
    need = question.asked.need
    if not codec.is_sound(value, image=question.image, field=field):
        return None
    try:
        kept = codec.decode(value, need=need)
    except codec.MalformedError:
        return None
    return Analysis(
        faces=kept.faces,
        weights={stage: question.weights[stage] for stage in networks_for(need)},
        engine=kept.engine,
        beyond=kept.beyond,
        rotation=kept.rotation,
    )


def _holds_enough(analysis: Analysis, look: Look) -> bool:
    """Whether the faces asked for are among those kept: all that were found, or so many."""
    return not analysis.beyond or len(analysis.faces) >= look.max_faces
