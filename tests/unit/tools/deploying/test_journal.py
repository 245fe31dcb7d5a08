"""The journal of deployments: what a crash, a full disk or a hand leaves of it."""

import errno
import os
from pathlib import Path

import pytest

from tools.deploying.errors import DeployError
from tools.deploying.journal import Event, Journal


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    journal = Journal(tmp_path)
    with journal.locked():
        journal.append(1, Event.BEGUN)
        journal.append(1, Event.DEPLOYED, release=1)
    return journal


def path_of(journal: Journal) -> Path:
    return journal.folder / "journal.jsonl"


@pytest.mark.parametrize("torn", [b'{"number":2,"eve', b"\0\0\0\0", b'{"number":"2"}'])
def test_a_torn_last_line_is_no_damage_and_makes_room_for_the_next(
    journal: Journal, torn: bytes
) -> None:
    whole = path_of(journal).read_bytes()
    path_of(journal).write_bytes(whole + torn)
    journal.check()
    assert journal.current() == 1
    journal.append(2, Event.BEGUN, release=1)
    assert journal.damage() == ""
    assert [entry.number for entry in journal.entries()] == [1, 1, 2]


def test_a_last_line_that_lacks_its_end_only_is_kept(journal: Journal) -> None:
    path_of(journal).write_bytes(path_of(journal).read_bytes().removesuffix(b"\n"))
    journal.append(2, Event.BEGUN, release=1)
    assert [entry.event for entry in journal.entries()] == ["begun", "deployed", "begun"]
    assert journal.damage() == ""


def test_lines_that_cannot_be_read_are_counted(journal: Journal) -> None:
    good = path_of(journal).read_text()
    path_of(journal).write_text(f'{good}[]\n{{"number":null,"event":"begun"}}\n{good}')
    with pytest.raises(DeployError, match=r"^lines 3, 4 of .*journal.jsonl cannot be read: put"):
        journal.check()


def test_a_full_disk_is_an_error_and_leaves_what_was_there(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(DeployError, match=r"journal.jsonl cannot be written: No space left"):
        journal.append(2, Event.BEGUN)
    assert journal.current() == 1


def test_only_a_deployment_that_ended_well_or_went_back_is_settled(journal: Journal) -> None:
    assert journal.is_settled()
    journal.append(2, Event.STARTING, release=2)
    assert not journal.is_settled()
    journal.append(2, Event.FAILED, release=1)
    assert not journal.is_settled()
    assert journal.unfinished() == []
    journal.append(3, Event.ROLLED_BACK, release=1)
    assert journal.is_settled()
