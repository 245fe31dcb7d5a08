"""One image of a job: fetch it, have it answered, and decide what becomes of it."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from gateway.deadline import Deadline
from gateway.error_policy import may_retry
from gateway.errors import (
    AurumError,
    ConfigurationError,
    InferenceUnavailableError,
    JobsUnavailableError,
    RequestTimeoutError,
    StorageUnavailableError,
)
from gateway.jobs.objects.base import ObjectMissingError, ObjectStore
from gateway.jobs.results import seal_result
from gateway.records.encryption import DataCipher
from gateway.records.job_types import ItemOutcome, LeasedItem, SealedResult
from gateway.worker.backoff import Pauses
from gateway.worker.operations import Operations
from gateway.worker.state import WorkerState
from gateway.worker.upstream import Upstream

T = TypeVar("T")
log = logging.getLogger(__name__)

RETRIES: Final = Pauses(first=5.0, longest=300.0)
"""Between attempts at an image, during which other images are worked on."""
SUSPECTS: Final = Pauses(first=150.0, longest=1200.0)
"""Between attempts at an image that was in Triton when it ended, twice. Triton then serves for more
than a minute before it meets this image again, which its supervisor takes for a sound start."""
_TRIES: Final = 2
"""Of one attempt: an upstream that went away is waited for without giving the image back."""
_AGAIN: Final = Pauses(first=0.5, longest=2.0)
_PATIENCE: Final = 6
"""Deadline of an image, as a multiple of a request's: others are answered first."""
_LARGE_ANSWER_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class GiveBack:
    """An image that is to be tried again after a delay, and why."""

    delay_seconds: float
    code: str
    detail: str


class ItemRunner:
    """Works on images, at most as many at a time as there are slots."""

    def __init__(
        self,
        operations: Operations,
        objects: ObjectStore,
        cipher: DataCipher,
        state: WorkerState,
        *,
        attempts: int,
        request_timeout_seconds: float,
        retries: Pauses = RETRIES,
        again: Pauses = _AGAIN,
    ) -> None:
        self._operations = operations
        self._objects = objects
        self._cipher = cipher
        self._upstreams = state.upstreams
        self._slots = state.slots
        self._counters = state.counters
        self._attempts = attempts
        self._seconds = _PATIENCE * request_timeout_seconds
        self._retries = retries
        self._again = again

    async def run(self, item: LeasedItem) -> ItemOutcome | GiveBack:
        """Return how the image ends, or that it is to be tried again; raises nothing."""
        try:
            image = await self._insist(lambda: self._objects.get(item.object_key))
            answer = await self._insist(lambda: self._answer(item, image))
            return ItemOutcome("ok", result=await self._seal(item, answer))
        except ObjectMissingError:
            return _failed("internal", "the image is no longer stored")
        except AurumError as error:
            if not may_retry(error):
                return _failed(error.code, error.detail)
            pauses = SUSPECTS if isinstance(error, InferenceUnavailableError) else self._retries
            return self._again_or_dead(item, error.code, error.detail, pauses)
        except ConfigurationError as error:
            # another worker may have the right key
            log.error("an image cannot be opened", extra={"reason": str(error)})  # noqa: TRY400
            return self._again_or_dead(
                item, "internal", "the stored image cannot be opened", self._retries
            )
        except Exception:
            log.exception("an image cannot be worked on", extra={"item": f"{item.key}"})
            return _failed("internal", "the image could not be worked on")

    async def _insist(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call; while an upstream is away, wait for it and call again, a few times.

        The image itself may be why an upstream goes away, so it is not tried for ever.
        """
        for number in range(_TRIES):
            await self._upstreams.images.wait()
            try:
                return await call()
            except RequestTimeoutError:
                # it has waited long enough, and others need not
                self._upstreams.triton.suspect()
                raise
            except (
                InferenceUnavailableError,
                JobsUnavailableError,
                StorageUnavailableError,
            ) as error:
                self._guard(error).suspect()
                if number + 1 == _TRIES:
                    raise
            await asyncio.sleep(self._again.of(number))
        raise AssertionError("unreachable")

    def _guard(self, error: AurumError) -> Upstream:
        if isinstance(error, JobsUnavailableError):
            return self._upstreams.images
        if isinstance(error, StorageUnavailableError):
            return self._upstreams.collections
        return self._upstreams.triton

    async def _answer(self, item: LeasedItem, image: bytes) -> bytes:
        operation = self._operations[item.job.operation]
        async with self._slots.take():
            # only now: the gates may have been closed while it waited for the slot
            if item.job.operation == "enrol":
                await self._upstreams.collections.wait()
            await self._upstreams.triton.wait()
            started = time.monotonic()
            try:
                return await operation.answer(item, image, deadline=Deadline.after(self._seconds))
            finally:
                self._counters.seconds += time.monotonic() - started

    async def _seal(self, item: LeasedItem, answer: bytes) -> SealedResult:
        if len(answer) <= _LARGE_ANSWER_BYTES:
            return seal_result(self._cipher, item.job.id, item.index, answer)
        return await asyncio.to_thread(seal_result, self._cipher, item.job.id, item.index, answer)

    def _again_or_dead(
        self, item: LeasedItem, code: str, detail: str, pauses: Pauses
    ) -> ItemOutcome | GiveBack:
        if item.attempts < self._attempts:
            return GiveBack(pauses.of(item.attempts - 1), code, detail)
        self._counters.dead += 1
        log.warning(
            "an image failed for the last time",
            extra={"job_id": item.job.id, "index": item.index, "code": code},
        )
        return _failed(code, f"{detail} (attempt {item.attempts} of {self._attempts})")


def _failed(code: str, detail: str) -> ItemOutcome:
    return ItemOutcome("error", code=code, detail=detail)
