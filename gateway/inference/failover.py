"""Triton first; while it is away, the fallback engine. Which one answered is in each answer."""

import asyncio
import logging
import struct
import zlib
from dataclasses import replace
from typing import Final

from gateway.circuit_breaker import CircuitBreaker, StateObserver
from gateway.concurrency import AdmissionControl
from gateway.deadline import Deadline
from gateway.error_policy import may_fall_back
from gateway.errors import AurumError, InferenceUnavailableError, RequestTimeoutError
from gateway.inference.base import FallbackEngine, Inference
from gateway.types import (
    ActiveVersions,
    Analysis,
    EngineStatus,
    FallbackStatus,
    Need,
    StageStatus,
)
from triton_python_backend.contract import DEFAULT_LOOK, Look

log = logging.getLogger(__name__)

_SHARE: Final = 0.6
"""Triton's share of a request's time where the fallback engine may answer afterwards."""
_LEAST_SECONDS: Final = 2.0
"""With less time left, Triton gets all of it, and a timeout does not mean that it is away."""
_PROBE_INTERVAL_SECONDS: Final = 0.5
_PROBE_SECONDS: Final = 5.0
_PROBE_LOOK: Final = Look(rotation="off")
_RETRY_AFTER_SECONDS: Final = 2
_EDGE: Final = 64


class FailoverInference:
    """`Inference` by Triton, or, where policy allows it, by the fallback engine.

    A circuit breaker opens after a few failures in a row: from then on requests go to the fallback
    at once. While it is open, `keep_probing` has Triton analyse a blank image every half second;
    the first answer closes it, so that no request waits for a probe.
    """

    def __init__(
        self,
        triton: Inference,
        fallback: FallbackEngine | None,
        *,
        admission: AdmissionControl,
        observer: StateObserver = lambda _: None,
    ) -> None:
        """Use both; without a fallback, requests are refused while Triton is away.

        admission: of the fallback, which is slower. observer: of Triton's circuit.
        """
        self._triton = triton
        self._fallback = fallback
        self._admission = admission
        self._opened = asyncio.Event()
        self._observer = observer
        self._breaker = CircuitBreaker(observer=self._note_state)
        self._reason = ""
        self._probing = asyncio.Lock()

    async def analyse(
        self, image: bytes, *, need: Need, deadline: Deadline, look: Look = DEFAULT_LOOK
    ) -> Analysis:
        """See `Inference.analyse`."""
        failure: AurumError = self._away()
        if not self._breaker.is_open:
            try:
                return await self._ask_triton(image, need, deadline, look)
            except AurumError as error:
                if not may_fall_back(error):
                    raise
                failure = error
        if self._fallback is None:
            raise failure
        # the time that it needs to start says nothing about its speed
        await self._fallback.start(deadline=deadline)
        with self._admission.take():
            return await self._fallback.analyse(image, need=need, deadline=deadline, look=look)

    async def status(self, *, deadline: Deadline) -> EngineStatus:
        """See `Inference.status`; `fallback` says whether it answers if Triton does not."""
        found = await self._triton.status(deadline=deadline.part(_SHARE))
        if found.ready and self._breaker.is_open:
            await self._probe(deadline)
            if self._breaker.is_open:
                found = replace(found, reachable=False, detail=self._reason)
        if self._fallback is None:
            return found
        if found.ready:
            pid = self._fallback.pid
            detail = "starts when Triton is away" if pid is None else f"process {pid}, not needed"
            return replace(found, fallback=FallbackStatus(True, detail))
        fallback = await self._fallback.status(deadline=deadline)
        return replace(found, fallback=FallbackStatus(fallback.ready, fallback.detail))

    async def stages(self, *, deadline: Deadline) -> tuple[StageStatus, ...]:
        """See `Inference.stages`: those of Triton, also while it is away."""
        return await self._triton.stages(deadline=deadline)

    async def in_service(self, *, deadline: Deadline) -> ActiveVersions:
        """See `Inference.in_service`."""
        if not self._breaker.is_open:
            try:
                weights = await self._triton.in_service(deadline=deadline)
            except AurumError as error:
                self._note(error, deadline)
                raise
            self._prefer(weights)
            return weights
        if self._fallback is None:
            raise self._away()
        return await self._fallback.in_service(deadline=deadline)

    async def close(self) -> None:
        """See `Inference.close`."""
        if self._fallback is not None:
            await self._fallback.close()
        await self._triton.close()

    async def keep_probing(self) -> None:
        """Ask whether Triton is back, for as long as it is away."""
        while True:
            await self._opened.wait()
            await asyncio.sleep(_PROBE_INTERVAL_SECONDS)
            await self._probe(Deadline.after(_PROBE_SECONDS))

    async def _ask_triton(
        self, image: bytes, need: Need, deadline: Deadline, look: Look
    ) -> Analysis:
        shares = (
            self._fallback is not None and look.detail != "high" and deadline.allows(_LEAST_SECONDS)
        )
        given = deadline.part(_SHARE) if shares else deadline
        counts = given.allows(_LEAST_SECONDS * _SHARE)
        try:
            analysis = await self._triton.analyse(image, need=need, deadline=given, look=look)
        except RequestTimeoutError as error:
            if counts:
                self._failed(error)
            if shares:
                raise self._away() from error
            raise
        except InferenceUnavailableError as error:
            self._failed(error)
            raise
        except AurumError:
            # it answered
            self._breaker.succeeded()
            raise
        self._breaker.succeeded()
        self._prefer(analysis.weights)
        return analysis

    async def _probe(self, deadline: Deadline) -> None:
        """Close the circuit if Triton's stages are ready and analyse a blank image."""
        async with self._probing:
            if not self._breaker.is_open:
                return
            try:
                found = await self._triton.status(deadline=deadline)
                if not found.ready:
                    return
                await self._triton.analyse(
                    _BLANK, need=Need.EMBEDDING, deadline=deadline, look=_PROBE_LOOK
                )
            except AurumError as error:
                log.debug("triton does not answer yet", extra={"reason": error.detail})
                return
            self._breaker.succeeded()

    def _note(self, error: AurumError, deadline: Deadline) -> None:
        if may_fall_back(error) or isinstance(error, RequestTimeoutError):
            self._failed(error)

    def _failed(self, error: AurumError) -> None:
        self._reason = f"Triton does not answer: {error.detail}"
        self._breaker.failed()

    def _note_state(self, is_open: bool) -> None:
        if is_open:
            self._opened.set()
            log.warning("triton is away", extra={"reason": self._reason})
        else:
            self._opened.clear()
            log.warning("triton answers again")
        self._observer(is_open)

    def _away(self) -> InferenceUnavailableError:
        return InferenceUnavailableError(
            "inference is not available at the moment", retry_after_seconds=_RETRY_AFTER_SECONDS
        )

    def _prefer(self, weights: ActiveVersions) -> None:
        if self._fallback is not None:
            self._fallback.prefer(weights)


def _blank() -> bytes:
    """Encode a small black PNG, which shows no face."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    head = struct.pack(">IIBBBBB", _EDGE, _EDGE, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes((_EDGE + 1) * _EDGE))
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", rows), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


_BLANK: Final = _blank()
