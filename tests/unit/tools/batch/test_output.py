"""Answers as a table, NDJSON, CSV and Parquet."""

import csv
import io
import json
import sys

import pytest

from tools.batch.options import Format, Options
from tools.batch.orders import ScoreOrder, SearchOrder
from tools.batch.output import open_sink
from tools.batch.types import Line, Outcome
from tools.errors import BatchError


async def nobody(_):
    raise AssertionError


ORDER = ScoreOrder(nobody)
QUALITY = {"acceptable": True}
FACE = {"box": [1, 2.5, 3, 4], "landmarks": [], "confidence": 0.9, "score": 7.25}
LINES = [
    Line("b.png", "bb", Outcome.ANSWERED, {"faces": [{**FACE, "quality": QUALITY}] * 2}),
    Line("[red]a\x1b[2J.png", None, Outcome.FAILED, error={"code": "x", "detail": "é, [red]no"}),
]


def write(chosen, target=None, order=ORDER, lines=LINES):
    stdout = io.BytesIO()
    sink = open_sink(chosen, order, target, stdout)
    for position, line in reversed(list(enumerate(lines))):
        sink.write(position, line)
    sink.close()
    return stdout.getvalue().decode() if target is None else target.read_bytes()


def test_ndjson_has_a_line_each():
    second, first = (json.loads(each) for each in write(Format.NDJSON).splitlines())
    assert list(first) == ["command", "input", "sha256", "outcome", "answer"]
    assert first["answer"]["faces"][1]["score"] == 7.25
    assert second["error"] == {"code": "x", "detail": "é, [red]no"}


def test_csv_has_a_row_for_each_face():
    rows = list(csv.DictReader(io.StringIO(write(Format.CSV))))
    assert [(row["input"], row["face"]) for row in rows[1:]] == [("b.png", "0"), ("b.png", "1")]
    assert (rows[1]["x1"], rows[1]["y1"], rows[1]["score"]) == ("1", "2.5", "7.25")
    assert (rows[0]["outcome"], rows[0]["detail"], rows[0]["face"]) == ("failed", "é, [red]no", "")


def test_parquet_names_what_it_lacks(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "tools.batch.parquet", raising=False)
    with pytest.raises(BatchError, match=r"pip install 'aurum\[parquet\]'"):
        write(Format.PARQUET, tmp_path / "a.parquet")


def test_a_table_is_in_the_order_of_the_inputs_and_cannot_steer_a_terminal(tmp_path):
    text = write(Format.TABLE, tmp_path / "a.txt").decode()
    assert text.index("b.png") < text.index("[red]a\\x1b[2J.png")
    assert "\x1b" not in text
    assert "7.250" in text
    assert "sha256" not in text


def test_a_search_shows_the_best_match_of_each_face():
    order = SearchOrder.__new__(SearchOrder)
    order.header = {"command": "search", "collection": "crew"}
    match = {"subject": "ada", "face_id": "1", "similarity": 0.75, "metadata": {}}
    faces = [{"box": None, "matches": [match, {**match, "subject": "bob"}]}, {"matches": []}]
    line = Line("a", "aa", Outcome.ANSWERED, {"faces": faces, "threshold": 0.3})
    first, second = csv.DictReader(io.StringIO(write(Format.CSV, order=order, lines=[line])))
    assert (first["subject"], first["similarity"], first["matches"]) == ("ada", "0.75", "2")
    assert (second["face"], second["subject"], second["matches"]) == ("1", "", "0")


def options(**changes):
    given = {"paths": ["a"], "from_list": False, "url": None, "parallel": 1, "output": None}
    more = {"resume": False, "format": None, "draw": None, "html": None}
    return Options(**(given | more | changes))


def test_the_format_follows_from_where_the_answers_go(tmp_path):
    assert options().chosen_format(is_terminal=True) is Format.TABLE
    assert options().chosen_format(is_terminal=False) is Format.NDJSON
    for name, chosen in (
        ("a.csv", Format.CSV),
        ("a.PARQUET", Format.PARQUET),
        ("a", Format.NDJSON),
    ):
        assert options(output=tmp_path / name).chosen_format(is_terminal=True) is chosen
    csv_file = options(output=tmp_path / "a", format=Format.CSV)
    assert csv_file.chosen_format(is_terminal=True) is Format.CSV


def test_options_that_contradict_each_other(tmp_path):
    there = tmp_path / "there.ndjson"
    there.touch()
    for changes, reason in (
        ({"resume": True}, "--resume needs --output"),
        ({"resume": True, "output": tmp_path / "a.csv"}, "--resume needs --output"),
        ({"format": Format.PARQUET}, "parquet needs --output"),
        ({"output": there}, "--resume goes on"),
    ):
        with pytest.raises(BatchError, match=reason):
            options(**changes).chosen_format(is_terminal=False)
    assert options(output=there, resume=True).chosen_format(is_terminal=False) is Format.NDJSON
