"""Pictures that take long to decode beside good ones, in a real Triton."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from PIL import Image
from tritonclient.utils import InferenceServerException

from tests.support import photos
from tests.support.image_files import many_scans, segment, with_segments
from tests.support.serving import Served
from triton_python_backend import contract
from triton_python_backend.formats.reader import read_header

SLOW_AT_ONCE = 6
"""More than the stage has instances, fewer than may wait."""


@pytest.fixture(scope="module")
def slow_picture() -> bytes:
    image = Image.new("RGB", (5200, 4000), "grey")
    image.paste(photos.portrait(), (1000, 1000))
    data = photos.encode(image, "JPEG", progressive=True, subsampling=0)
    assert read_header(data).is_slow
    return data


def size_of(triton: Served, data: bytes) -> tuple[list[int], float]:
    """Ask the preprocessing stage for the size alone: the answer and the moment it came."""
    client = grpcclient.InferenceServerClient(triton.grpc_address)
    image = grpcclient.InferInput(contract.IMAGE, [1], "BYTES")
    image.set_data_from_numpy(np.array([data], dtype=np.object_))
    wanted = [grpcclient.InferRequestedOutput(contract.SIZE)]
    answer = client.infer(contract.PREPROCESS.name, [image], outputs=wanted)
    client.close()
    return answer.as_numpy(contract.SIZE).tolist(), time.monotonic()


def test_slow_pictures_hold_up_nobody(triton, slow_picture):
    variants = [
        with_segments(slow_picture, segment(0xFE, bytes([number])))
        for number in range(SLOW_AT_ONCE)
    ]
    with ThreadPoolExecutor(SLOW_AT_ONCE) as pool:
        slow = [pool.submit(size_of, triton, data) for data in variants]
        time.sleep(0.1)
        good, good_at = size_of(triton, photos.encode(photos.portrait()))
        answers = [future.result() for future in slow]
    assert good == [512, 512, 1]
    assert [size for size, _ in answers] == [[5200, 4000, 1]] * SLOW_AT_ONCE
    assert good_at < min(moment for _, moment in answers[2:])


def test_a_picture_of_too_many_scans_is_refused_by_the_stage(triton):
    with pytest.raises(InferenceServerException, match="more scans than its size allows"):
        size_of(triton, many_scans(3000, 300))


def test_a_broken_slow_picture_fails_alone(triton, slow_picture):
    with ThreadPoolExecutor(2) as pool:
        broken = pool.submit(size_of, triton, slow_picture[: len(slow_picture) // 2])
        whole = pool.submit(size_of, triton, slow_picture)
        assert whole.result()[0] == [5200, 4000, 1]
        with pytest.raises(InferenceServerException, match=contract.INVALID_IMAGE):
            broken.result()
