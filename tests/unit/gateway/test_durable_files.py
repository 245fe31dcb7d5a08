"""Files that are on the disk when a function returns."""

import os

import pytest

from gateway.durable_files import append_line, sync_path, write_synced


@pytest.fixture
def synced(monkeypatch):
    """List the sizes that files had when they were synced."""
    sizes = []

    def note(descriptor):
        sizes.append(os.fstat(descriptor).st_size)

    monkeypatch.setattr(os, "fsync", note)
    return sizes


def test_a_file_is_whole_before_it_is_synced(tmp_path, synced):
    file = tmp_path / "file"
    write_synced(file, b"twelve bytes")
    sync_path(file)
    sync_path(tmp_path)
    assert file.read_bytes() == b"twelve bytes"
    assert synced[:2] == [12, 12]
    assert len(synced) == 3


def test_a_torn_line_is_ended_before_the_next_one(tmp_path, synced):
    file = tmp_path / "journal"
    append_line(file, b"one")
    with file.open("ab") as torn:
        torn.write(b"tw")
    append_line(file, b"three")
    append_line(file, b"four")
    assert file.read_bytes() == b"one\ntw\nthree\nfour\n"
    assert synced == [4, 13, 18]
