"""What becomes of an image: an answer, an error, or another attempt."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from gateway.concurrency import BackgroundTasks
from gateway.deadline import Deadline
from gateway.errors import (
    AurumError,
    ConfigurationError,
    InferenceUnavailableError,
    InvalidImageError,
    JobsUnavailableError,
    LowQualityError,
    NoFaceError,
    RequestTimeoutError,
    StorageUnavailableError,
)
from gateway.jobs.results import open_result
from gateway.records.encryption import RingCipher
from gateway.records.job_types import LeasedItem
from gateway.records.key_ring import KeyRing
from gateway.worker.backoff import Pauses
from gateway.worker.item_run import GiveBack, ItemRunner
from gateway.worker.slots import Slots
from gateway.worker.state import Counters, Upstreams, WorkerState
from gateway.worker.upstream import Upstream
from tests.support.scripted_jobs import MemoryObjects, job, leased

HASTY = Pauses(first=0.001, longest=0.002)
RETRIES = Pauses(first=5.0, longest=300.0, draw=lambda: 1.0)
AWAY = InferenceUnavailableError("Triton is away")


@dataclass
class Operation:
    """Raises each of these in turn, then answers."""

    failures: list[Exception] = field(default_factory=list)
    asked: int = 0
    active: int = 0
    most_active: int = 0
    seconds: float = 0.0

    async def answer(self, item: LeasedItem, image: bytes, *, deadline: Deadline) -> bytes:
        self.asked += 1
        self.active += 1
        self.most_active = max(self.most_active, self.active)
        try:
            await asyncio.sleep(self.seconds)
            if self.failures:
                raise self.failures.pop(0)
            return image + b" answered"
        finally:
            self.active -= 1


class World:
    def __init__(self, background: BackgroundTasks) -> None:
        self.operation = Operation()
        self.objects = MemoryObjects({f"job/{n:06d}": b"image %d" % n for n in range(10)})
        self.cipher = RingCipher(lambda: KeyRing.of(b"k" * 32))
        self.triton: list[AurumError] = []
        self.vectors: list[AurumError] = []
        self.upstreams = Upstreams(
            triton=Upstream("Triton", lambda: self.probe(self.triton), background, pauses=HASTY),
            images=Upstream("images", self.objects.health, background, pauses=HASTY),
            collections=Upstream(
                "vectors", lambda: self.probe(self.vectors), background, pauses=HASTY
            ),
        )
        self.counters = Counters()
        self.state = WorkerState("w1", ("score",), self.upstreams, Slots(2), self.counters)
        self.runner = ItemRunner(
            {"score": self.operation, "enrol": self.operation},
            self.objects,
            self.cipher,
            self.state,
            attempts=3,
            request_timeout_seconds=10.0,
            retries=RETRIES,
            again=HASTY,
        )

    async def probe(self, failures: list[AurumError]) -> None:
        if failures:
            raise failures.pop(0)

    async def error_of(self, item: LeasedItem) -> tuple[str | None, str | None]:
        outcome = await self.runner.run(item)
        assert not isinstance(outcome, GiveBack)
        assert (outcome.status, outcome.result) == ("error", None)
        return outcome.code, outcome.detail


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with BackgroundTasks() as background, asyncio.timeout(60):
        yield World(background)


async def test_an_answer_is_sealed_for_its_image(world):
    outcome = await world.runner.run(leased(3))
    assert (outcome.status, outcome.code) == ("ok", None)
    assert open_result(world.cipher, "job", 3, outcome.result) == b"image 3 answered"
    with pytest.raises(ConfigurationError):
        open_result(world.cipher, "job", 4, outcome.result)


@pytest.mark.parametrize(
    "error",
    [InvalidImageError("broken"), NoFaceError("nobody"), LowQualityError("blurred")],
    ids=lambda error: error.code,
)
async def test_what_is_wrong_with_an_image_ends_it_at_once(world, error):
    world.operation.failures = [error]
    assert await world.error_of(leased()) == (error.code, error.detail)
    assert (world.operation.asked, world.counters.dead) == (1, 0)


async def test_an_error_that_may_pass_gives_the_image_back_for_longer_each_time(world):
    for attempts, delay in ((1, 5.0), (2, 10.0)):
        world.operation.failures = [RequestTimeoutError("late")]
        ending = await world.runner.run(leased(attempts=attempts))
        assert ending == GiveBack(delay, "timeout", "late")


async def test_the_last_attempt_ends_an_image_with_its_error(world):
    world.operation.failures = [RequestTimeoutError("late")]
    code, detail = await world.error_of(leased(attempts=3))
    assert (code, detail) == ("timeout", "late (attempt 3 of 3)")
    assert world.counters.dead == 1


async def test_a_triton_that_goes_away_is_waited_for_and_costs_no_attempt(world):
    world.operation.failures = [AWAY]
    world.triton = [AWAY] * 5
    outcome = await world.runner.run(leased())
    assert outcome.status == "ok"
    assert (world.operation.asked, world.triton) == (2, [])


async def test_no_image_is_sent_to_a_triton_that_is_away(world):
    world.triton = [AWAY] * 1000
    world.upstreams.triton.suspect()
    running = [asyncio.create_task(world.runner.run(leased(n))) for n in range(4)]
    while not world.upstreams.triton.is_away:
        await asyncio.sleep(0.001)
    assert world.operation.asked == 0
    world.triton.clear()
    assert [each.status for each in await asyncio.gather(*running)] == ["ok"] * 4


async def test_an_image_in_triton_at_two_of_its_ends_is_tried_again_after_minutes(world):
    world.operation.failures = [AWAY, AWAY]
    ending = await world.runner.run(leased())
    assert isinstance(ending, GiveBack)
    # the supervisor takes a start for sound after 60 seconds
    assert ending.delay_seconds >= 75
    assert ending.code == "inference_unavailable"


async def test_images_that_cannot_be_fetched_are_waited_for(world):
    world.objects.away = JobsUnavailableError("no bucket")
    running = asyncio.create_task(world.runner.run(leased()))
    while not world.upstreams.images.is_away:
        await asyncio.sleep(0.001)
    world.objects.away = None
    assert (await running).status == "ok"
    assert world.operation.asked == 1


async def test_an_image_that_is_gone_ends_as_an_error(world):
    assert await world.error_of(leased(99)) == ("internal", "the image is no longer stored")


async def test_an_image_of_another_key_is_left_to_another_worker(world):
    world.objects.away = ConfigurationError("sealed with key 1234")
    ending = await world.runner.run(leased())
    assert ending == GiveBack(5.0, "internal", "the stored image cannot be opened")


async def test_a_vector_store_that_goes_away_is_waited_for(world):
    world.operation.failures = [StorageUnavailableError("no Qdrant")]
    world.vectors = [StorageUnavailableError("no Qdrant")] * 3
    assert (await world.runner.run(leased(of=job("enrol")))).status == "ok"
    assert world.vectors == []


async def test_images_without_vectors_do_not_wait_for_the_vector_store(world):
    world.vectors = [StorageUnavailableError("no Qdrant")] * 100_000
    world.upstreams.collections.suspect()
    assert (await world.runner.run(leased())).status == "ok"


async def test_a_bug_ends_the_image_without_its_words(world, caplog):
    world.operation.failures = [ZeroDivisionError("secret")]
    assert await world.error_of(leased()) == ("internal", "the image could not be worked on")
    assert "ZeroDivisionError" in caplog.text


async def test_no_more_images_are_in_triton_than_there_are_slots(world):
    world.operation.seconds = 0.005
    await asyncio.gather(*[world.runner.run(leased(n)) for n in range(8)])
    assert (world.operation.asked, world.operation.most_active) == (8, 2)
    assert world.counters.seconds >= 8 * 0.005
