"""What a verdict on a network depends on beside its file."""

import hashlib

import pytest

from triton_python_backend import fingerprint as under_test
from triton_python_backend.fingerprint import file_digest, fingerprint


def test_the_same_gives_the_same_and_more_another():
    assert fingerprint() == fingerprint()
    assert len({fingerprint(), fingerprint(b"a"), fingerprint(b"a", b""), fingerprint(b"b")}) == 4
    # where one part ends belongs to it
    assert fingerprint(b"ab", b"c") != fingerprint(b"a", b"bc")


@pytest.mark.parametrize("changed", ["library", "processor", "trial"])
def test_another_runtime_processor_or_trial_gives_another(changed, tmp_path, monkeypatch):
    before = fingerprint()
    other = tmp_path / "other"
    other.write_text("model name : another")
    if changed == "library":
        monkeypatch.setattr(under_test, "find_library", lambda: other)
    elif changed == "processor":
        monkeypatch.setattr(under_test, "_PROCESSOR", other)
    else:
        monkeypatch.setattr(under_test, "_TRIAL", under_test._TRIAL[1:])
    assert fingerprint() != before


def test_a_machine_that_does_not_name_its_processor_has_a_fingerprint(tmp_path, monkeypatch):
    monkeypatch.setattr(under_test, "_PROCESSOR", tmp_path / "none")
    assert len(fingerprint()) == 64


def test_a_file_is_hashed(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"bytes")
    assert file_digest(file) == hashlib.sha256(b"bytes").digest()
