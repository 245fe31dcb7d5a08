"""The order of a request, with an engine that gives known answers."""

import asyncio

import pytest

from gateway.concurrency import AdmissionControl, CpuPool, SlowGate
from gateway.deadline import Deadline
from gateway.errors import (
    InferenceUnavailableError,
    InvalidImageError,
    NoFaceError,
    RequestTimeoutError,
    UnsupportedMediaTypeError,
)
from gateway.images import ImageLimits
from gateway.pipeline import Pipeline, Selection
from gateway.telemetry.metrics import Metrics
from gateway.types import Need
from tests.support.fake_inference import SPACE, FakeInference, photo

ALL = Selection(max_faces=32, min_confidence=0.5)
LARGEST = Selection(max_faces=1, min_confidence=0.5)


@pytest.fixture
def fake():
    return FakeInference()


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
def pipeline(fake, metrics):
    workers = CpuPool(1)
    yield Pipeline(
        fake,
        limits=ImageLimits(10**6, 1),
        admission=AdmissionControl(4),
        cpu_pool=workers,
        metrics=metrics,
    )
    workers.close()


async def run(pipeline, data, *, need=Need.NOTHING_MORE, selection=ALL):
    return await pipeline.run(data, need=need, selection=selection, deadline=Deadline.after(5))


async def compare(pipeline, a, b, selection=LARGEST):
    deadline = Deadline.after(5)
    return await pipeline.compare(image_a=a, image_b=b, selection=selection, deadline=deadline)


async def test_only_needed_outputs_are_requested(pipeline, fake):
    await run(pipeline, photo())
    await run(pipeline, photo(), need=Need.SCORE)
    assert fake.needs == [Need.NOTHING_MORE, Need.SCORE]


async def test_a_refused_image_never_reaches_the_engine(pipeline, fake):
    with pytest.raises(UnsupportedMediaTypeError):
        await run(pipeline, b"no image")
    assert fake.needs == []


async def test_the_largest_faces_are_kept_in_order(pipeline):
    result = await run(pipeline, photo(faces=5), selection=Selection(2, 0.5))
    assert [face.box[0] for face in result.analysis.faces] == [0, 10]


async def test_uncertain_faces_are_left_out(pipeline):
    result = await run(pipeline, photo(faces=5), selection=Selection(32, 0.925))
    assert [face.confidence for face in result.analysis.faces] == pytest.approx([0.95, 0.94, 0.93])


async def test_faces_and_waiting_are_counted(pipeline, metrics):
    result = await run(pipeline, photo(faces=3), selection=Selection(1, 0.5))
    assert metrics.registry.get_sample_value("aurum_faces_found_total") == 3
    labels = {"engine": "triton"}
    assert metrics.registry.get_sample_value("aurum_inference_seconds_count", labels) == 1
    took = result.took_ms
    assert took.total == pytest.approx(took.validate + took.inference)


async def test_a_request_above_the_limit_is_refused_at_once(pipeline, fake):
    fake.seconds = 0.2
    answers = await asyncio.gather(
        *(run(pipeline, photo()) for _ in range(6)), return_exceptions=True
    )
    refused = [a for a in answers if isinstance(a, InferenceUnavailableError)]
    assert len(refused) == 2
    assert fake.most_active == 4


async def test_a_full_service_refuses_before_the_image_is_read(pipeline, fake):
    fake.seconds = 3600
    waiting = [asyncio.create_task(run(pipeline, photo())) for _ in range(4)]
    while fake.active < 4:
        await asyncio.sleep(0)
    with pytest.raises(InferenceUnavailableError):
        await run(pipeline, b"no image")
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)


@pytest.mark.parametrize(("seed", "similarity"), [(0, 1.0), (1, 0.0)])
async def test_similarity_is_the_cosine_of_the_largest_faces(pipeline, seed, similarity):
    result = await compare(pipeline, photo(faces=2), photo(faces=1, seed=seed))
    assert result.similarity == similarity
    assert len(result.a.analysis.faces) == 1


async def test_both_images_are_analysed_concurrently(pipeline, fake):
    fake.seconds = 0.05
    await compare(pipeline, photo(), photo())
    assert fake.most_active == 2


@pytest.mark.parametrize("blank", ["image_a", "image_b"])
async def test_the_error_names_the_image_without_a_face(pipeline, blank):
    images = {"image_a": photo(), "image_b": photo()} | {blank: photo(faces=0)}
    with pytest.raises(NoFaceError, match=blank):
        await compare(pipeline, images["image_a"], images["image_b"])


async def test_the_error_names_a_broken_image_without_waiting_for_the_other(pipeline, fake):
    fake.seconds = 3600
    with pytest.raises(InvalidImageError, match="image_b: the image has no bytes"):
        await asyncio.wait_for(compare(pipeline, photo(), b""), 60)
    assert fake.active == 0


async def test_embeddings_of_two_spaces_are_computed_again(pipeline, fake):
    fake.spaces = ["0" * 16, SPACE]
    assert (await compare(pipeline, photo(), photo())).similarity == 1.0
    assert len(fake.needs) == 4


async def test_lasting_differences_of_space_are_an_error(pipeline, fake):
    fake.spaces = ["0" * 16, SPACE] * 2
    with pytest.raises(InferenceUnavailableError):
        await compare(pipeline, photo(), photo())


async def test_requests_for_high_detail_run_one_at_a_time_and_take_no_place_of_others(
    pipeline, fake
):
    fake.seconds = 0.05
    high = Selection(32, 0.5, detail="high")
    await asyncio.gather(*(run(pipeline, photo(seed=n), selection=high) for n in range(3)))
    assert fake.most_active == 1
    both = [run(pipeline, photo(seed=n), selection=s) for n, s in enumerate((high, ALL, high))]
    await asyncio.gather(*both)
    assert fake.most_active == 2


async def test_waiting_too_long_for_a_turn_is_a_timeout(pipeline, fake):
    fake.seconds = 0.3
    high = Selection(32, 0.5, detail="high")
    first = asyncio.create_task(run(pipeline, photo(seed=1), selection=high))
    await fake.started.wait()
    with pytest.raises(RequestTimeoutError):
        await pipeline.run(
            photo(seed=2), need=Need.NOTHING_MORE, selection=high, deadline=Deadline.after(0.1)
        )
    assert (await first).faces_found == 1
    assert (await run(pipeline, photo(seed=3), selection=high)).faces_found == 1


async def test_slow_pictures_wait_only_for_each_other(fake, metrics):
    slow, gate = photo(seed=1), AdmissionControl(8)
    workers = CpuPool(1)
    ordinary = AdmissionControl(8)
    pipeline = Pipeline(
        fake,
        limits=ImageLimits(10**6, 1),
        admission=ordinary,
        slow=SlowGate(gate, at_once=1),
        cpu_pool=workers,
        metrics=metrics,
    )
    fake.seconds = 0.05
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("triton_python_backend.formats.header.SLOW_NANOSECONDS", 0)
        await asyncio.gather(run(pipeline, slow), run(pipeline, slow))
    assert fake.most_active == 1
    # their times do not count for the expected wait of others
    assert gate._seconds_each > 0
    assert ordinary._seconds_each == 0
    await asyncio.gather(run(pipeline, slow), run(pipeline, slow))
    assert fake.most_active == 2
    workers.close()
