"""The register of erasures: nobody is named, nothing is lost, half a line spoils no other."""

import json
from pathlib import Path

import pytest

from gateway.errors import StorageUnavailableError
from gateway.records.audit_keys import AuditKeys
from gateway.records.erasure_register import (
    FileRegister,
    Mark,
    RegisterLine,
    digest_of,
    read_lines,
)

KEYS = AuditKeys({"old": bytes(32), "new": bytes(range(32))}, "new")
ADA = Mark("subject", "x" * 36, "ada")


async def test_a_line_names_nobody_and_is_found_by_who_has_the_key(tmp_path: Path) -> None:
    file = tmp_path / "new" / "register"
    register = FileRegister(file, KEYS)
    await register.note([])
    assert not file.exists()
    await register.note([ADA, Mark("collection", "x" * 36)])
    await register.note([Mark("image", "x" * 36, "ada")])
    assert file.stat().st_mode & 0o777 == 0o600
    content = file.read_bytes()
    assert b"ada" not in content
    assert b"xxx" not in content
    lines, unread = read_lines(content)
    assert ([line.kind for line in lines], unread) == (["subject", "collection", "image"], 0)
    assert lines[0] == RegisterLine(
        lines[0].at, "subject", "new", digest_of(ADA, KEYS.by_id["new"])
    )
    # neither another key nor another kind, nor the border between two parts, gives the same
    others = [
        digest_of(ADA, KEYS.by_id["old"]),
        digest_of(Mark("subject", "x" * 35, "xada"), KEYS.by_id["new"]),
        lines[2].digest,
    ]
    assert lines[0].digest not in others


async def test_half_a_line_spoils_only_itself(tmp_path: Path) -> None:
    file = tmp_path / "register"
    register = FileRegister(file, KEYS)
    await register.note([ADA])
    file.write_bytes(file.read_bytes() + b'{"at":1,"ki')
    await register.note([ADA])
    lines, unread = read_lines(file.read_bytes())
    assert (len(lines), unread) == (2, 1)


@pytest.mark.parametrize(
    "line",
    [
        b"[]",
        b"7",
        b"\xff",
        json.dumps({"at": "now", "kind": "face", "key": "a", "digest": "b"}).encode(),
        json.dumps({"at": 1, "kind": "cat", "key": "a", "digest": "b"}).encode(),
    ],
)
def test_what_is_no_line_is_counted(line: bytes) -> None:
    assert read_lines(line + b"\n\n") == ((), 1)


async def test_a_register_that_cannot_be_written_stops_the_erasure(tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailableError, match="register of erasures"):
        await FileRegister(tmp_path, KEYS).note([ADA])
