import numpy as np
import pytest

from triton_python_backend.results import drop_filler, said_once


def test_the_filler_row_is_dropped_and_faces_are_kept():
    assert drop_filler(np.ones((1, 128)), faces=0).shape == (0, 128)
    assert drop_filler(np.arange(3), faces=3).tolist() == [0, 1, 2]


def test_missing_rows_are_an_error():
    with pytest.raises(ValueError, match="1 rows for 2 faces"):
        drop_filler(np.ones((1, 4)), faces=2)


def test_ids_are_returned_once():
    assert said_once(np.array([[7], [7]])).tolist() == [7]
