"""What is done about an error."""

import pytest

from gateway import errors
from gateway.error_policy import may_fall_back, may_retry, policy_of


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (errors.InferenceUnavailableError("away"), True),
        (errors.RequestTimeoutError("late"), True),
        (errors.StorageUnavailableError("away"), True),
        (errors.InvalidImageError("cut off"), False),
        (errors.NoFaceError("none"), False),
        (errors.AurumError("bug"), False),
        (errors.ConflictError("exists"), False),
        (errors.ConflictError("under way", retry_after_seconds=1), True),
    ],
)
def test_only_what_may_succeed_later_is_tried_again(error, again):
    assert may_retry(error) is again


def test_another_engine_answers_only_where_this_one_is_away():
    assert may_fall_back(errors.InferenceUnavailableError("away"))
    for error in (
        errors.InvalidImageError("cut off"),
        errors.RequestTimeoutError("late"),
        errors.AurumError("bug"),
        errors.StorageUnavailableError("away"),
    ):
        assert not may_fall_back(error)


def test_an_error_of_a_subclass_has_the_row_of_its_code():
    assert policy_of(errors.NoFaceError("none")).status == 422
