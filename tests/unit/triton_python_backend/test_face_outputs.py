"""The optional outputs of a face."""

import pytest

from triton_python_backend.face_outputs import FaceOutput, Need


def test_the_values_of_needs_stay_as_cache_keys_hold_them():
    assert {need.name: need.value for need in Need} == {"EMBEDDING": 1, "SCORE": 2, "CROPS": 4}
    assert not Need.NOTHING_MORE


@pytest.mark.parametrize(
    ("dims", "number", "vector"), [((), True, False), ((-1,), False, True), ((2, 2), False, False)]
)
def test_an_output_is_a_number_a_vector_or_another_array(dims, number, vector):
    output = FaceOutput("x", "X", "FP32", dims, Need.SCORE)
    assert (output.is_number, output.is_vector) == (number, vector)
