import csv
import io
import json

import pytest

from gateway.api.jobs.csv_table import COLUMNS, header, row
from gateway.jobs.service import OpenedItem
from gateway.records.job_types import ItemResult


def opened(answer=None, *, name="a.jpg", status="ok", code=None, detail=None) -> OpenedItem:
    item = ItemResult(3, name, status, code, detail, None, 1, 2.0, 1)
    return OpenedItem(item, None if answer is None else json.dumps(answer).encode())


def cells(operation, item) -> dict[str, str]:
    rows = list(csv.reader(io.StringIO(row(operation, item).decode(), newline="")))
    assert len(rows) == 1
    return dict(zip(COLUMNS[operation], rows[0], strict=True))


def test_a_header_names_the_columns_of_the_operation():
    assert header("detect") == (
        b"index,name,status,code,detail,faces,x1,y1,x2,y2,confidence,acceptable\r\n"
    )
    assert b",score," in header("score")
    assert b",subject,face_id,duplicate," in header("enrol")


def test_the_largest_face_is_the_first():
    first = {"box": [1, 2, 3.5, 4], "confidence": 0.75, "score": None, "embedding": [0.1] * 512}
    second = {"box": [9, 9, 9, 9], "confidence": 0.1, "quality": {"acceptable": True}}
    found = cells("score", opened({"faces": [first, second], "faces_found": 5}))
    assert (found["faces"], found["x1"], found["x2"]) == ("5", "1.0", "3.5")
    assert (found["confidence"], found["score"], found["acceptable"]) == ("0.75", "", "")


def test_an_enrolment_shows_its_subject():
    face = {"subject": "=anna", "face_id": "f", "duplicate": False, "box": None}
    found = cells("enrol", opened({"faces": [face], "rejected": [{"index": 0}]}))
    assert (found["faces"], found["subject"], found["face_id"]) == ("1", "'=anna", "f")
    assert (found["duplicate"], found["x1"]) == ("false", "")


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@a", "\t=1", "\r=1", "\n=1", "\uff1d1", "\uff0b1"]
)
def test_texts_are_no_formulas(text):
    found = cells("detect", opened(name=text, status="error", code="internal", detail=text))
    assert (found["name"], found["detail"]) == (f"'{text}", f"'{text}")


@pytest.mark.parametrize("text", ["a=1.jpg", "a,b", 'a"b', "a\nb", " =1", "é", "' =1"])
def test_other_texts_stay_as_they_are(text):
    assert cells("detect", opened(name=text))["name"] == text


def test_names_that_are_no_unicode_are_written():
    assert cells("detect", opened(name="a\udcffb"))["name"] == "a?b"


def test_numbers_stay_numbers():
    face = {"box": [-1.5, -2, 3, 4], "confidence": 0.5}
    assert cells("detect", opened({"faces": [face]}))["x1"] == "-1.5"
