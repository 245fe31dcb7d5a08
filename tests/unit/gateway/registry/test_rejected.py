import pytest

from gateway.registry.rejected import read_rejected, with_rejected
from gateway.types import StageStatus, StageVersion
from tools.registry.journal import Action, Entry, Journal

STAGE = "face_embedding"


@pytest.fixture
def journal(tmp_path) -> Journal:
    return Journal(tmp_path / "models" / "journal.jsonl")


def withdraw(journal: Journal, version: int) -> None:
    for phase in ("begun", "done"):
        journal.append(Entry(Action.WITHDRAW, STAGE, version, version, 1, phase, "NaN"))


def test_a_rejected_version_is_listed_until_another_change_of_it(journal, tmp_path):
    assert read_rejected(tmp_path) == {}
    withdraw(journal, 2)
    withdraw(journal, 3)
    assert read_rejected(tmp_path) == {(STAGE, "2"): "NaN", (STAGE, "3"): "NaN"}
    journal.append(Entry(Action.REMOVE, STAGE, 2, 1, 1))
    assert read_rejected(tmp_path) == {(STAGE, "3"): "NaN"}


def test_a_torn_line_is_skipped(journal, tmp_path):
    withdraw(journal, 2)
    with (tmp_path / "models" / "journal.jsonl").open("ab") as file:
        file.write(b'{"action": "with')
    assert read_rejected(tmp_path) == {(STAGE, "2"): "NaN"}


def test_the_reason_is_shown_with_the_stage_and_only_there():
    stages = (
        StageStatus(STAGE, (StageVersion("1", "READY", ""), StageVersion("2", "LOADING", ""))),
        StageStatus("face_scoring", (StageVersion("2", "READY", ""),)),
    )
    shown = with_rejected(stages, {(STAGE, "2"): "NaN", (STAGE, "3"): "garbage"})
    assert [(v.version, v.state, v.reason) for v in shown[0].versions] == [
        ("1", "READY", ""),
        ("2", "UNAVAILABLE", "taken out: NaN"),
        ("3", "UNAVAILABLE", "taken out: garbage"),
    ]
    assert shown[1] == stages[1]


def test_a_version_that_answers_is_not_listed_as_rejected():
    stages = (StageStatus(STAGE, (StageVersion("2", "READY", ""),)),)
    assert with_rejected(stages, {(STAGE, "2"): "NaN"}) == stages
