from collections.abc import Mapping

import numpy as np
import onnxruntime
import pytest

from tests.support import golden
from tests.support.golden import Detector, Faces


@pytest.fixture(scope="session")
def canvases() -> Mapping[str, np.ndarray]:
    return golden.require(golden.make_all_canvases)


@pytest.fixture(scope="session")
def reference(canvases, tmp_path_factory) -> Mapping[tuple[str, str], Faces]:
    folder = tmp_path_factory.mktemp("insightface")
    return golden.require(lambda: golden.ask_insightface(canvases, folder))


@pytest.fixture(scope="session", params=golden.DETECTORS)
def detector_name(request) -> str:
    return request.param


@pytest.fixture(scope="session")
def detector(detector_name) -> Detector:
    return golden.require(lambda: golden.import_detector(detector_name))


@pytest.fixture(scope="session")
def embedder() -> onnxruntime.InferenceSession:
    return golden.require(golden.import_embedder)
