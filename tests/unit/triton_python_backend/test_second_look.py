import json

import pytest

from triton_python_backend.contract import DETECTION, candidate_of, parse_id
from triton_python_backend.second_look import FRESH_SECONDS, UNMEASURED, SecondLook, SecondLooks

D, E = "d" * 16, "e" * 16
LOW = {"closeup_below": 0.6, "turned_below": 0.7}
HIGH = {"closeup_below": 0.8, "turned_below": 0.75}


def write(repository, version, *, file="model.json", model=DETECTION.name, **document):
    folder = repository / model / str(version)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(json.dumps(document))


def test_each_detector_has_its_own(tmp_path):
    write(tmp_path, 1, id=D, second_look=LOW)
    write(tmp_path, 1, model=candidate_of(DETECTION.name), id=E, second_look=HIGH)
    looks = SecondLooks(tmp_path)
    assert looks.of(parse_id(D)) == SecondLook(0.6, 0.7)
    assert looks.of(parse_id(E)) == SecondLook(0.8, 0.75)
    assert looks.of(0) == UNMEASURED


def test_a_later_measurement_counts_for_more_than_the_import(tmp_path):
    write(tmp_path, 3, id=D, second_look=LOW)
    write(tmp_path, 3, file="reference.json", id=D, second_look={**HIGH, "photos": 5})
    assert SecondLooks(tmp_path).of(parse_id(D)) == SecondLook(0.8, 0.75)


@pytest.mark.parametrize(
    "document",
    [
        {"id": D},
        {"id": D, "second_look": None},
        {"id": D, "second_look": {"closeup_below": 0.6}},
        {"id": D, "second_look": {**LOW, "turned_below": 1.01}},
        {"id": D, "second_look": {**LOW, "turned_below": "0.7"}},
        {"id": D, "second_look": {**LOW, "turned_below": float("nan")}},
        {"id": D[:-1], "second_look": LOW},
        {"id": 4, "second_look": LOW},
        {"second_look": LOW},
    ],
)
def test_what_cannot_be_read_counts_as_not_measured(tmp_path, document):
    write(tmp_path, 1, **document)
    assert SecondLooks(tmp_path).of(parse_id(D)) == UNMEASURED


@pytest.mark.parametrize("text", ["", "[]", "7", "{", "\xff"])
def test_files_that_are_no_such_document_count_as_not_measured(tmp_path, text):
    write(tmp_path, 1)
    (tmp_path / DETECTION.name / "1" / "model.json").write_text(text, "latin-1")
    assert SecondLooks(tmp_path).of(parse_id(D)) == UNMEASURED


def test_a_new_version_is_seen_after_a_while(tmp_path):
    now = [0.0]
    looks = SecondLooks(tmp_path, clock=lambda: now[0])
    assert looks.of(parse_id(D)) == UNMEASURED
    write(tmp_path, 1, id=D, second_look=LOW)
    assert looks.of(parse_id(D)) == UNMEASURED
    now[0] += FRESH_SECONDS + 1
    assert looks.of(parse_id(D)) == SecondLook(0.6, 0.7)
