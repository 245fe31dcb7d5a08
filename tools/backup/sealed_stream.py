"""Encrypts a stream in chunks of 1 MiB with AES-256-GCM.

A head in clear (release, time, salt) is followed by chunks, each with its length. Every archive has
a key of its own; the number of a chunk and whether it is the last are its nonce, and the head is
authenticated with each. So no byte can be changed, no chunk moved, repeated, cut off or added.
"""

import hashlib
import json
import struct
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tools.backup.errors import BackupError
from tools.backup.secret import BackupSecret

_MAGIC: Final = b"AURUM BACKUP 1\n"
_LENGTH: Final = struct.Struct(">I")
CHUNK_BYTES: Final = 1 << 20
_TAG_BYTES: Final = 16
_MOST_HEAD_BYTES: Final = 4096
_NUMBER_BYTES: Final = 11
NOT_AN_ARCHIVE: Final = "not a backup of Aurum"


class Sink(Protocol):
    """Where an archive is written."""

    async def write(self, data: bytes) -> None:
        """Write bytes behind those of before."""


class Source(Protocol):
    """Where an archive is read."""

    async def read(self, size: int) -> bytes:
        """Read the next bytes: `size` of them, fewer at the end only."""


class SealedWriter:
    """Encrypts what is written into a sink."""

    def __init__(self, sink: Sink, key: bytes, head: bytes) -> None:
        self._sink = sink
        self._cipher = AESGCM(key)
        self._digest = hashlib.sha256(head).digest()
        self._waiting = bytearray()
        self._number = 0
        self.written = len(head)
        """Bytes of the archive so far."""

    @classmethod
    async def open(
        cls, sink: Sink, secret: BackupSecret, about: Mapping[str, Any]
    ) -> "SealedWriter":
        """Write the head; about: what it says in clear."""
        parameters = secret.parameters()
        content = json.dumps({**about, "key": parameters}).encode()
        head = _MAGIC + _LENGTH.pack(len(content)) + content
        await sink.write(head)
        return cls(sink, secret.key(parameters), head)

    async def write(self, data: bytes) -> None:
        """Encrypt bytes."""
        self._waiting += data
        # one byte stays, for the last chunk is never empty
        while len(self._waiting) > CHUNK_BYTES:
            await self._seal(CHUNK_BYTES, is_last=False)

    async def finish(self) -> None:
        """Write the last chunk, without which an archive is not complete."""
        await self._seal(len(self._waiting), is_last=True)

    async def _seal(self, size: int, *, is_last: bool) -> None:
        nonce = _nonce(self._number, is_last=is_last)
        sealed = self._cipher.encrypt(nonce, bytes(self._waiting[:size]), self._digest)
        del self._waiting[:size]
        self._number += 1
        self.written += _LENGTH.size + len(sealed)
        await self._sink.write(_LENGTH.pack(len(sealed)) + sealed)


async def read_head(source: Source) -> tuple[Mapping[str, Any], bytes]:
    """Return what the head of an archive says in clear, and its bytes; raises BackupError."""
    start = await source.read(len(_MAGIC) + _LENGTH.size)
    if not start.startswith(_MAGIC) or len(start) < len(_MAGIC) + _LENGTH.size:
        raise BackupError(NOT_AN_ARCHIVE)
    (size,) = _LENGTH.unpack(start[len(_MAGIC) :])
    if size > _MOST_HEAD_BYTES:
        raise BackupError("the head of the archive is damaged")
    content = await source.read(size)
    try:
        about = json.loads(content)
        if len(content) == size and isinstance(about["key"], dict):
            return about, start + content
    except (ValueError, KeyError, TypeError):
        pass
    raise BackupError("the head of the archive is damaged")


async def read_sealed(source: Source, secret: BackupSecret) -> AsyncIterator[bytes]:
    """Decrypt an archive from its first byte; raises BackupError for one that is not whole."""
    about, head = await read_head(source)
    cipher = AESGCM(secret.key(about["key"]))
    digest = hashlib.sha256(head).digest()
    number = 0
    length = await source.read(_LENGTH.size)
    while True:
        size = _LENGTH.unpack(length)[0] if len(length) == _LENGTH.size else 0
        if size > CHUNK_BYTES + _TAG_BYTES:
            raise BackupError(_damaged(number))
        sealed = await source.read(size)
        length = await source.read(_LENGTH.size)
        is_last = not length
        if len(sealed) < size or size < _TAG_BYTES:
            raise BackupError("the archive is cut off")
        try:
            yield cipher.decrypt(_nonce(number, is_last=is_last), sealed, digest)
        except InvalidTag:
            is_cut = is_last and _opens(cipher, _nonce(number, is_last=False), sealed, digest)
            problem = "the archive is cut off" if is_cut else _damaged(number)
            raise BackupError(problem) from None
        if is_last:
            return
        number += 1


def _opens(cipher: AESGCM, nonce: bytes, sealed: bytes, digest: bytes) -> bool:
    try:
        cipher.decrypt(nonce, sealed, digest)
    except InvalidTag:
        return False
    return True


def _nonce(number: int, *, is_last: bool) -> bytes:
    return number.to_bytes(_NUMBER_BYTES, "big") + bytes([is_last])


def _damaged(number: int) -> str:
    return f"the archive is damaged in its chunk {number + 1} (of {CHUNK_BYTES >> 20} MiB each)"
