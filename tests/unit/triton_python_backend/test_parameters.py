"""KServe parameters of a request."""

import json

import pytest

from triton_python_backend.contract import DEFAULT_LOOK, MOST_FACES, Look
from triton_python_backend.parameters import InvalidParameterError, read_look


@pytest.mark.parametrize("text", ["", "{}", '{"priority":1}'])
def test_defaults_apply_without_our_parameters(text):
    assert read_look(text) == DEFAULT_LOOK


@pytest.mark.parametrize(
    "look",
    [
        DEFAULT_LOOK,
        Look(max_faces=1),
        Look(max_faces=MOST_FACES, detail="high"),
        Look(rotation="off"),
    ],
)
def test_written_parameters_are_read_back(look):
    assert read_look(json.dumps(look.parameters())) == look


def test_only_differences_from_the_default_are_written():
    assert DEFAULT_LOOK.parameters() == {}
    assert Look(detail="high").parameters() == {"detail": "high"}


def test_a_number_may_be_a_text():
    assert read_look('{"max_faces":"40"}').max_faces == 40


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_faces", 0),
        ("max_faces", MOST_FACES + 1),
        ("max_faces", True),
        ("max_faces", 2.5),
        ("max_faces", "-1"),
        ("max_faces", "many"),
        ("rotation", "on"),
        ("rotation", 90),
        ("detail", ""),
        ("detail", None),
        ("detail", ["high"]),
    ],
)
def test_the_error_names_a_wrong_value(name, value):
    with pytest.raises(InvalidParameterError, match=name):
        read_look(json.dumps({name: value}))
