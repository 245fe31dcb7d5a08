"""The register of erasures: what a backup from before must not bring back.

It lies outside of the stores, so that it outlives them, and is written before anything is deleted.
(A revoked API key is noted after it has ended.) A line has the time, the kind and an HMAC-SHA-256
under a key of the audit log; it has no name, no image and no id. To match a line, one needs that
key and what was erased. A restored backup has both.
"""

import asyncio
import hashlib
import hmac
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Protocol, get_args

from gateway.errors import StorageUnavailableError
from gateway.records import clock
from gateway.records.audit import ChainKeys
from gateway.settings import Settings

VARIABLE: Final = "AURUM_ERASURE_REGISTER_FILE"
Kind = Literal["subject", "image", "face", "collection", "crops", "key"]
"""What was erased. image: what jobs had of it; crops: all those of a collection; key: an API key
that was revoked."""
_KINDS: Final = get_args(Kind)
_CONTEXT: Final = b"aurum erasure\0"
_RETRY_SECONDS: Final = 5


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that is being erased.

    name: of a subject, the SHA-256 of an image, the id of a face or a key; empty for the collection
    itself and its crops. collection_id: empty for a key.
    """

    kind: Kind
    collection_id: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class RegisterLine:
    """A line of the register; at: seconds since 1970."""

    at: float
    kind: Kind
    key_id: str
    digest: str


class ErasureRegister(Protocol):
    """Keeps what was erased outside of the stores."""

    async def note(self, marks: Sequence[Mark]) -> None:
        """Write lines durably; raises an AurumError, and then nothing may be erased."""
        ...


class NothingRegistered:
    """An `ErasureRegister` of stores that no backup is made of."""

    async def note(self, marks: Sequence[Mark]) -> None:
        """Write nothing."""


NOTHING_REGISTERED: Final = NothingRegistered()


class FileRegister:
    """An `ErasureRegister` in a file, to which several processes may append."""

    def __init__(self, file: Path, keys: ChainKeys) -> None:
        self._file = file
        self._keys = keys

    async def note(self, marks: Sequence[Mark]) -> None:
        """See `ErasureRegister.note`."""
        if not marks:
            return
        try:
            await asyncio.to_thread(_append, self._file, write_lines(marks, self._keys))
        except OSError as error:
            message = f"the register of erasures cannot be written: {error.strerror}"
            raise StorageUnavailableError(message, retry_after_seconds=_RETRY_SECONDS) from error


def register_file(settings: Settings) -> Path:
    """Return the file of the register."""
    return settings.erasure_register_file or settings.home / "erasures.register"


def digest_of(mark: Mark, key: bytes) -> str:
    """Return the HMAC-SHA-256 of a mark, 64 hexadecimal digits."""
    content = json.dumps([mark.kind, mark.collection_id, mark.name]).encode()
    return hmac.new(key, _CONTEXT + content, hashlib.sha256).hexdigest()


def write_lines(marks: Iterable[Mark], keys: ChainKeys) -> bytes:
    """Write marks as lines of JSON, of now."""
    key_id, key = keys.current
    at = clock.now()
    lines = (
        {"at": at, "kind": mark.kind, "key": key_id, "digest": digest_of(mark, key)}
        for mark in marks
    )
    return b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines)


def read_lines(data: bytes) -> tuple[tuple[RegisterLine, ...], int]:
    """Read a register; returns its lines and the number of those that cannot be read.

    A process that was killed while it wrote leaves half a line, whose erasure was not begun.
    """
    found: list[RegisterLine] = []
    unread = 0
    for line in data.splitlines():
        if not line.strip():
            continue
        read = _read_line(line)
        if read is None:
            unread += 1
        else:
            found.append(read)
    return tuple(found), unread


def _read_line(line: bytes) -> RegisterLine | None:
    try:
        content: Mapping[str, Any] = json.loads(line)
        at, kind, key_id = content["at"], content["kind"], content["key"]
        digest = content["digest"]
    except (ValueError, KeyError, TypeError):
        return None
    if not isinstance(at, int | float) or kind not in _KINDS:
        return None
    return RegisterLine(float(at), kind, str(key_id), str(digest))


def _append(file: Path, lines: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    is_new = not file.exists()
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "r+b", buffering=0) as handle:
        size = handle.seek(0, os.SEEK_END)
        # half a line of a process that was killed must not spoil this one
        is_cut = size > 0 and os.pread(handle.fileno(), 1, size - 1) != b"\n"
        written = b"\n" * is_cut + lines
        if handle.write(written) != len(written):
            raise OSError(None, "it was written in part")
        os.fsync(handle.fileno())
    if is_new:
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
