"""The file that remembers: no line lost, none doubled."""

import json

import pytest

from tools.batch.journal import Journal
from tools.batch.types import Line, Outcome
from tools.errors import BatchError

HEADER = {"command": "score"}


def line(name, outcome=Outcome.ANSWERED):
    answer = {"faces": [], "note": "é\u2028"} if outcome is Outcome.ANSWERED else None
    error = None if answer else {"code": "x", "detail": ""}
    return Line(name, f"sha of {name}", outcome, answer, error)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out" / "answers.ndjson"


def written(path):
    return [json.loads(text)["input"] for text in path.read_bytes().splitlines()]


def test_answers_are_found_again_and_failures_are_asked_again(path):
    journal = Journal.open(path, HEADER, resume=False)
    for each in (line("a"), line("b", Outcome.FAILED), line("c"), line("d", Outcome.REFUSED)):
        journal.write(each)
    assert written(path) == ["a", "b", "c", "d"]
    journal.close()

    again = Journal.open(path, HEADER, resume=True)
    assert written(path) == ["a", "c"]
    assert [("a", "sha of a") in again, ("b", "sha of b") in again] == [True, False]
    assert ("a", "another") not in again
    again.write(line("b"))
    assert again.line(("c", "sha of c")) == line("c")
    assert again.line(("b", "sha of b")) == line("b")
    again.close()
    assert written(path) == ["a", "c", "b"]
    assert [each.name for each in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_a_line_that_was_cut_off_is_written_anew(path, cut):
    journal = Journal.open(path, HEADER, resume=False)
    journal.write(line("a"))
    journal.write(line("b"))
    journal.close()
    path.write_bytes(path.read_bytes()[:-cut])
    again = Journal.open(path, HEADER, resume=True)
    assert written(path) == ["a"]
    again.write(line("b"))
    again.close()
    assert written(path) == ["a", "b"]


def test_a_line_is_in_the_file_as_soon_as_it_is_written(path):
    journal = Journal.open(path, HEADER, resume=False)
    journal.write(line("a"))
    assert written(path) == ["a"]
    journal.close()


def test_one_command_at_a_time(path):
    journal = Journal.open(path, HEADER, resume=False)
    journal.write(line("a"))
    with pytest.raises(BatchError, match="another command writes"):
        Journal.open(path, HEADER, resume=True)
    journal.close()
    Journal.open(path, HEADER, resume=True).close()


def test_the_answers_of_another_command_are_not_continued(path):
    journal = Journal.open(path, {"command": "search", "collection": "a"}, resume=False)
    journal.write(line("a"))
    journal.close()
    before = path.read_bytes()
    with pytest.raises(BatchError, match="another command, see line 1"):
        Journal.open(path, {"command": "search", "collection": "b"}, resume=True)
    assert path.read_bytes() == before


@pytest.mark.parametrize("text", ["hello\n", "[1]\n", '{"input": "a"}\n', '{"a": 1}\n'])
def test_a_file_of_something_else_stays_as_it_is(path, text):
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(BatchError, match="line 1"):
        Journal.open(path, HEADER, resume=True)
    assert path.read_text() == text
    assert [each.name for each in path.parent.iterdir()] == [path.name]
