"""The Triton client over real gRPC against a server that follows a script."""

import asyncio

import grpc
import pytest

from gateway.deadline import Deadline
from gateway.errors import (
    AurumError,
    InferenceUnavailableError,
    InvalidImageError,
    RequestTimeoutError,
)
from gateway.inference.triton import TritonInference
from gateway.inference.version_index import VersionIndex
from gateway.types import Need
from tests.support.grpc_triton import Script, running
from triton_python_backend import contract

PIPELINE = contract.PIPELINE.name
UNSCORED = contract.UNSCORED.name
UNAVAILABLE = (grpc.StatusCode.UNAVAILABLE, "connection reset")
BASE = {
    "BOXES",
    "LANDMARKS",
    "CONFIDENCE",
    "QUALITY",
    "DETECTOR",
    "FOUND_CONFIDENCE",
    "ROTATION",
}


@pytest.fixture
def script():
    return Script()


@pytest.fixture
async def engine(script):
    async with running(script) as address:
        engine = TritonInference(address)
        yield engine
        await engine.close()


async def analyse(engine, need=Need.NOTHING_MORE, seconds=10.0):
    return await engine.analyse(b"image", need=need, deadline=Deadline.after(seconds))


@pytest.mark.parametrize(
    ("need", "ensemble", "more"),
    [
        (Need.NOTHING_MORE, PIPELINE, set()),
        (Need.EMBEDDING, UNSCORED, {"EMBEDDING", "SPACE"}),
        (Need.EMBEDDING | Need.CROPS, UNSCORED, {"EMBEDDING", "SPACE", "CROPS"}),
        (Need.SCORE, PIPELINE, {"SCORE", "HEAD", "SPACE"}),
        (Need.CROPS, PIPELINE, {"CROPS"}),
        (Need.SCORE | Need.EMBEDDING, PIPELINE, {"SCORE", "HEAD", "SPACE", "EMBEDDING"}),
    ],
)
async def test_only_needed_outputs_are_requested(engine, script, need, ensemble, more):
    await analyse(engine, need)
    (asked,) = script.asked(ensemble)
    assert set(asked) == BASE | more
    assert len(asked) == len(set(asked))


async def test_what_differs_from_the_usual_look_goes_as_parameters(engine, script):
    await analyse(engine)
    look = contract.Look(max_faces=64, rotation="off", detail="high")
    await engine.analyse(b"image", need=Need.EMBEDDING, look=look, deadline=Deadline.after(10))
    assert script.parameters == [{}, {"max_faces": 64, "rotation": "off", "detail": "high"}]


async def test_once_unavailable_is_tried_again(engine, script):
    script.failures = [UNAVAILABLE]
    assert len((await analyse(engine)).faces) == 1
    assert len(script.asked(PIPELINE)) == 2


async def test_twice_unavailable_is_given_up(engine, script):
    script.failures = [UNAVAILABLE] * 3
    with pytest.raises(InferenceUnavailableError) as refusal:
        await analyse(engine)
    assert refusal.value.retry_after_seconds >= 1
    assert len(script.asked(PIPELINE)) == 2


async def test_no_second_try_when_the_deadline_leaves_no_time(engine, script):
    script.failures = [UNAVAILABLE] * 2
    with pytest.raises(InferenceUnavailableError):
        await analyse(engine, seconds=0.1)
    assert len(script.asked(PIPELINE)) == 1


@pytest.mark.parametrize(
    ("status", "text", "expected"),
    [
        ("INVALID_ARGUMENT", "in ensemble 'face_pipeline', invalid_image: cut off", "cut off"),
        ("INTERNAL", "face_preprocess: invalid_image: cut off\nTraceback /usr/lib", "cut off"),
    ],
)
async def test_what_is_no_image_is_said_in_one_clean_sentence(
    engine, script, status, text, expected
):
    script.failures = [(grpc.StatusCode[status], text)]
    with pytest.raises(InvalidImageError) as refusal:
        await analyse(engine)
    assert refusal.value.detail == f"the image cannot be decoded: {expected}"
    assert len(script.asked(PIPELINE)) == 1


@pytest.mark.parametrize(
    ("status", "text"),
    [
        ("NOT_FOUND", "Request for unknown model: 'face_pipeline' is not found"),
        ("UNAVAILABLE", "Request for unknown model: 'face_pipeline' has no available versions"),
        ("INTERNAL", "message: Stub process 'face_preprocess_0_0' is not healthy."),
    ],
)
async def test_a_stage_that_is_not_there_is_unavailable(engine, script, status, text):
    script.failures = [(grpc.StatusCode[status], text)] * 2
    with pytest.raises(InferenceUnavailableError):
        await analyse(engine)


async def test_any_other_failure_says_nothing_of_itself(engine, script, caplog):
    script.failures = [(grpc.StatusCode.INTERNAL, "secret path /opt/x")]
    with pytest.raises(AurumError) as failure:
        await analyse(engine)
    assert failure.value.code == "internal"
    assert "secret" not in failure.value.detail
    assert any("secret" in str(vars(record)) for record in caplog.records)


async def test_a_slow_server_ends_with_the_deadline(engine, script):
    script.seconds = 30
    with pytest.raises(RequestTimeoutError):
        await analyse(engine, seconds=0.3)


async def test_a_call_goes_on_when_its_caller_has_gone(engine, script):
    # a cancelled call to the ensemble can kill Triton 24.10
    script.seconds = 0.3
    asked = asyncio.ensure_future(analyse(engine))
    await script.called.wait()
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    with pytest.raises(RequestTimeoutError):
        await analyse(engine, seconds=0.1)
    await asyncio.sleep(0.6)
    assert script.cancelled == 0


async def test_nobody_there(unused_tcp_port):
    engine = TritonInference(f"127.0.0.1:{unused_tcp_port}")
    with pytest.raises(InferenceUnavailableError):
        await analyse(engine)
    status = await engine.status(deadline=Deadline.after(5))
    assert not status.reachable
    assert not status.ready
    await engine.close()


async def test_a_server_that_comes_back_is_found_again(script, unused_tcp_port):
    address = f"127.0.0.1:{unused_tcp_port}"
    engine = TritonInference(address)
    async with running(script, address):
        await analyse(engine)
    for _ in range(5):
        with pytest.raises(InferenceUnavailableError):
            await analyse(engine)
    async with running(script, address):
        for _ in range(600):
            try:
                analysis = await analyse(engine)
                break
            except InferenceUnavailableError:
                await asyncio.sleep(0.1)
        assert analysis.faces
    await engine.close()


# Versions ----------------------------------------------------------------------------------


async def test_versions_are_learnt_once(engine, script):
    for _ in range(3):
        analysis = await analyse(engine, Need.SCORE)
    assert analysis.detection.version == "1"
    assert analysis.embedding.version == "1"
    assert analysis.scoring.version == "1"
    assert analysis.embedding.id == contract.format_id(21)
    assert script.asked("face_detection") == [("DETECTOR",)]


async def test_an_unknown_id_triggers_one_refresh(engine, script):
    await analyse(engine)
    script.versions["face_detection"] = {"1": 11, "2": 12}
    for _ in range(3):
        assert (await analyse(engine)).detection.version == "2"
    # once for version 1, then once more for both
    assert len(script.asked("face_detection")) == 3


async def test_an_id_of_no_ready_version_has_none(engine, script):
    await analyse(engine)
    probes = len(script.asked("face_detection"))
    script.id_of = lambda stage, version="": 99 if not version else 11
    for _ in range(3):
        assert (await analyse(engine)).detection.version is None
    assert len(script.asked("face_detection")) == probes + 1


async def test_many_at_once_learn_together(engine, script):
    await asyncio.gather(*(analyse(engine) for _ in range(10)))
    assert script.asked("face_detection") == [("DETECTOR",)]


async def test_many_at_once_with_an_unknown_id_ask_once_more(engine, script):
    await analyse(engine)
    probes = len(script.asked("face_detection"))
    script.id_of = lambda stage, version="": 99 if not version else 11
    await asyncio.gather(*(analyse(engine) for _ in range(10)))
    assert len(script.asked("face_detection")) == probes + 1


async def test_a_version_that_tells_no_id_spoils_no_answer(engine, script):
    script.dimension = 77  # no length that is tried fits but the embedding's own
    assert (await analyse(engine, Need.SCORE)).scoring.version == "1"


async def test_an_old_book_is_read_anew_beside_the_request(engine, script):
    now = 0.0
    book = VersionIndex(engine._calls, clock=lambda: now)
    await book.name("face_detection", 11, deadline=Deadline.after(5))
    script.versions["face_detection"] = {"2": 11}
    now = 31.0
    stale = await book.name("face_detection", 11, deadline=Deadline.after(5))
    assert stale.version == "1"
    await book._refreshes.settle(seconds=5)
    fresh = await book.name("face_detection", 11, deadline=Deadline.after(5))
    assert fresh.version == "2"
    await book.close()


async def test_weights_that_come_back_under_another_number_are_named_by_it(engine, script):
    script.versions["face_detection"] = {"1": 11, "2": 12}
    assert (await analyse(engine)).detection.version == "2"
    script.versions["face_detection"] = {"1": 11}
    assert (await analyse(engine)).detection.version == "1"
    for _ in range(2):
        await engine.stages(deadline=Deadline.after(5))
    script.versions["face_detection"] = {"1": 11, "3": 12}
    assert (await analyse(engine)).detection.version == "3"
    # and a number may come back with other weights
    script.versions["face_detection"] = {"3": 13}
    assert (await analyse(engine)).detection.version == "3"
    script.versions["face_detection"] = {"3": 13, "4": 12}
    assert (await analyse(engine)).detection.version == "4"


async def test_stages_carry_ids_and_foreign_models_are_left_out(engine):
    stages = await engine.stages(deadline=Deadline.after(5))
    assert [stage.name for stage in stages] == [stage.name for stage in contract.STAGES]
    ids = {stage.name: stage.versions[0].id for stage in stages}
    assert ids["face_embedding"] == contract.format_id(21)
    assert ids["face_alignment"] is None


async def test_servers_behind_one_name_take_turns():
    scripts = Script(), Script()
    async with running(scripts[0]) as first, running(scripts[1]) as second:
        engine = TritonInference(f"ipv4:{first},{second}")
        try:
            # until both are connected, one may answer alone
            async with asyncio.timeout(60):
                while not all(script.asked(PIPELINE) for script in scripts):
                    await analyse(engine)
            before = [len(script.asked(PIPELINE)) for script in scripts]
            for _ in range(6):
                await analyse(engine)
        finally:
            await engine.close()
    now = [len(script.asked(PIPELINE)) for script in scripts]
    assert [after - each for after, each in zip(now, before, strict=True)] == [3, 3]


async def test_a_server_that_ends_leaves_its_calls_to_the_others():
    scripts = Script(), Script()
    async with running(scripts[0]) as first:
        async with running(scripts[1]) as second:
            engine = TritonInference(f"ipv4:{first},{second}")
            async with asyncio.timeout(60):
                while not all(script.asked(PIPELINE) for script in scripts):
                    await analyse(engine)
        try:
            before = len(scripts[0].asked(PIPELINE))
            for _ in range(4):
                await analyse(engine)
        finally:
            await engine.close()
    assert len(scripts[0].asked(PIPELINE)) == before + 4
