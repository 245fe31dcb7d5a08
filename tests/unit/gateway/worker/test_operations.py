"""Options of jobs as operations read them."""

import pytest

from gateway.api.collections.schemas import EnrolIn
from gateway.api.faces.schemas import FaceOptions
from gateway.errors import InvalidRequestError
from gateway.worker.operations import read_options, request_id_of
from tests.support.scripted_jobs import leased


def test_options_are_those_of_the_route():
    read = read_options(FaceOptions, {"include": ["embedding"], "max_faces": 3, "detail": "high"})
    assert read == FaceOptions(include=("embedding",), max_faces=3, detail="high")


def test_options_of_other_operations_are_left_out():
    options = {"include": ["crop"], "subject_from": "folder", "min_confidence": 0.9}
    assert read_options(EnrolIn, options) == EnrolIn(min_confidence=0.9)


def test_options_that_no_longer_fit_are_named():
    with pytest.raises(InvalidRequestError, match="option 'max_faces' of the job"):
        read_options(FaceOptions, {"max_faces": 0})


def test_each_image_stands_for_a_request():
    assert request_id_of(leased(7)) == "job/7"
