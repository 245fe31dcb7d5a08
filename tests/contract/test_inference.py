"""What every inference engine promises: the fake of the tests, Triton, the fallback's process."""

import asyncio
from dataclasses import dataclass

import numpy as np
import pytest

from gateway.deadline import Deadline
from gateway.errors import InvalidImageError, RequestTimeoutError
from gateway.inference.base import Inference
from gateway.inference.fallback import FallbackInference
from gateway.inference.triton import TritonInference
from gateway.settings import CHECKOUT
from gateway.types import Need
from tests.support import photos
from tests.support.fake_inference import FakeInference, photo
from triton_python_backend import contract

EVERYTHING = Need.EMBEDDING | Need.SCORE | Need.CROPS
PATIENCE = 60.0


@dataclass(frozen=True)
class Subject:
    """An engine, and images to which it gives the same answers."""

    engine: Inference
    face: bytes
    blank: bytes
    broken: bytes = photos.cut_off()


@pytest.fixture(params=["fake", "triton", "fallback"])
async def subject(request):
    if request.param == "fake":
        found = Subject(FakeInference(), photo(size=(640, 480)), photo(faces=0))
    elif request.param == "fallback":
        engine = FallbackInference(CHECKOUT / "model_repository", threads=2)
        found = Subject(engine, photos.PORTRAIT.read_bytes(), photos.blank())
    else:
        address = request.getfixturevalue("triton").grpc_address
        found = Subject(TritonInference(address), photos.PORTRAIT.read_bytes(), photos.blank())
    yield found
    await found.engine.close()


async def analyse(subject, data, need=Need.NOTHING_MORE):
    return await subject.engine.analyse(data, need=need, deadline=Deadline.after(PATIENCE))


async def test_a_face_has_everything_that_was_requested(subject):
    analysis = await analyse(subject, subject.face, EVERYTHING)
    (face,) = analysis.faces
    left, top, right, bottom = face.box
    assert left < right
    assert top < bottom
    assert len(face.landmarks) == 5
    assert all(left <= x <= right and top <= y <= bottom for x, y in face.landmarks)
    assert contract.MIN_CONFIDENCE <= face.confidence <= 1
    assert face.quality.size > 0
    assert 1 <= face.score <= 10
    assert np.linalg.norm(face.embedding) == pytest.approx(1, abs=1e-5)
    assert face.embedding.dtype == np.float32
    assert (face.crop.shape, face.crop.dtype) == ((112, 112, 3), np.uint8)


async def test_answers_name_their_weights(subject):
    analysis = await analyse(subject, subject.face, EVERYTHING)
    stages = await subject.engine.stages(deadline=Deadline.after(PATIENCE))
    ids = {
        (stage.name, each.id): each.version
        for stage in stages
        for each in stage.versions
        if each.ready and each.id
    }
    assert list(analysis.weights) == [stage.name for stage in contract.ONNX_STAGES]
    for stage, weights in analysis.weights.items():
        assert len(weights.id) == 16
        if isinstance(subject.engine, FakeInference):
            assert (stage, weights.id) in ids
        else:
            assert ids[stage, weights.id] == weights.version
    active = await subject.engine.in_service(deadline=Deadline.after(PATIENCE))
    assert dict(active) == dict(analysis.weights)


async def test_outputs_that_were_not_requested_are_absent(subject):
    analysis = await analyse(subject, subject.face)
    (face,) = analysis.faces
    assert face.outputs == {}
    assert list(analysis.weights) == [contract.DETECTION.name]


@pytest.mark.parametrize("need", [Need.NOTHING_MORE, Need.EMBEDDING, Need.CROPS, EVERYTHING])
async def test_no_face_is_no_error(subject, need):
    analysis = await analyse(subject, subject.blank, need)
    assert analysis.faces == ()
    assert analysis.detection.id


@pytest.mark.parametrize("need", [Need.EMBEDDING, Need.SCORE, Need.CROPS])
async def test_each_need_works_alone(subject, need):
    (face,) = (await analyse(subject, subject.face, need)).faces
    assert (face.embedding is not None) == (need is Need.EMBEDDING)
    assert (face.score is not None) == (need is Need.SCORE)
    assert (face.crop is not None) == (need is Need.CROPS)


async def test_a_broken_image_fails_only_its_own_request_with_one_sentence(subject):
    answers = await asyncio.gather(
        *(analyse(subject, data) for data in [subject.face, subject.broken, subject.blank] * 3),
        return_exceptions=True,
    )
    for number, answer in enumerate(answers):
        if number % 3 == 1:
            assert isinstance(answer, InvalidImageError)
            assert "\n" not in answer.detail
            assert "face_preprocess" not in answer.detail
        else:
            assert len(answer.faces) == (number % 3 == 0)


async def test_a_deadline_that_passed_is_an_error(subject):
    with pytest.raises(RequestTimeoutError):
        await subject.engine.analyse(
            subject.face, need=Need.NOTHING_MORE, deadline=Deadline.after(0)
        )


async def test_status_lists_every_stage_in_order(subject):
    status = await subject.engine.status(deadline=Deadline.after(PATIENCE))
    assert status.ready
    assert [stage.name for stage in status.stages] == [stage.name for stage in contract.STAGES]
