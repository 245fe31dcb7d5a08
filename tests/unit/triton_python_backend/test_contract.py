import pytest

from triton_python_backend import contract


@pytest.mark.parametrize("value", [0, 1, -1, 2**63 - 1, -(2**63)])
def test_ids_are_read_back_unchanged(value):
    text = contract.format_id(value)
    assert len(text) == 16
    assert contract.parse_id(text) == value


@pytest.mark.parametrize("text", ["", "12", "g" * 16, "0" * 17])
def test_other_texts_are_refused_as_ids(text):
    with pytest.raises(ValueError, match=r"."):
        contract.parse_id(text)


def test_stage_names_are_unique():
    names = [stage.name for stage in contract.STAGES]
    assert len(names) == len(set(names))
