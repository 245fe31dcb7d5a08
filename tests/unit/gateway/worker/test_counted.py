"""Images of our own are counted as Triton counts them."""

from contextlib import nullcontext

import pytest

from gateway.deadline import Deadline
from gateway.errors import InferenceUnavailableError, InvalidImageError
from gateway.types import Need
from gateway.worker.counted import CountedInference
from tests.support.fake_inference import FakeInference, photo


@pytest.mark.parametrize(
    ("error", "images"),
    [(None, 1), (InvalidImageError("broken"), 1), (InferenceUnavailableError("away"), 0)],
)
async def test_what_triton_answers_or_refuses_is_counted(error, images):
    counted = CountedInference(FakeInference(error=error))
    with nullcontext() if error is None else pytest.raises(type(error)):
        await counted.analyse(photo(), need=Need.NOTHING_MORE, deadline=Deadline.after(5))
    assert counted.images == images


async def test_everything_else_is_asked_of_the_engine():
    inner = FakeInference()
    counted, deadline = CountedInference(inner), Deadline.after(5)
    assert await counted.status(deadline=deadline) == await inner.status(deadline=deadline)
    assert await counted.stages(deadline=deadline) == await inner.stages(deadline=deadline)
    assert await counted.in_service(deadline=deadline) == await inner.in_service(deadline=deadline)
    await counted.close()
    assert inner.closed
