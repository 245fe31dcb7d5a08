"""The parts of an archive: members with items, each with its number of items and its SHA-256.

Each part is a frame: its length and a message of MessagePack. The manifest comes last.
"""

import hashlib
import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec

from tools.backup.errors import BackupError
from tools.backup.sealed_stream import SealedWriter

_LENGTH: Final = struct.Struct(">I")
_MOST_BYTES: Final = 256 << 20
"""Largest frame: some rows of the records, or one image of a job."""


class Begin(msgspec.Struct, frozen=True, tag="begin", array_like=True):
    """A member begins. about: what its reader has to know first."""

    name: str
    about: dict[str, Any]


class Items(msgspec.Struct, frozen=True, tag="items", array_like=True):
    """Some items of the member: rows, points or pieces of a file."""

    items: list[Any]


class End(msgspec.Struct, frozen=True, tag="end", array_like=True):
    """The member ends. sha256: of the frames of its items."""

    items: int
    sha256: str


class Finished(msgspec.Struct, frozen=True, tag="finished", array_like=True):
    """The archive ends. members: items and digests by name."""

    manifest: dict[str, Any]
    members: dict[str, tuple[int, str]]


Frame = Begin | Items | End | Finished
_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Frame)


class Member:
    """A member that is being written or read."""

    def __init__(self) -> None:
        self.items = 0
        self._digest = hashlib.sha256()

    def add(self, frame: bytes, number: int) -> None:
        """Count items by their frame."""
        self.items += number
        self._digest.update(frame)

    @property
    def summary(self) -> tuple[int, str]:
        """Items and digest."""
        return self.items, self._digest.hexdigest()


class ArchiveWriter:
    """Writes members one after the other."""

    def __init__(self, stream: SealedWriter) -> None:
        self._stream = stream
        self._members: dict[str, tuple[int, str]] = {}
        self._member = Member()

    @asynccontextmanager
    async def member(
        self, name: str, about: Mapping[str, Any] | None = None
    ) -> AsyncIterator[None]:
        """Write a member: the items of the block."""
        self._member = Member()
        await self._write(Begin(name, dict(about or {})))
        yield
        self._members[name] = self._member.summary
        await self._write(End(*self._member.summary))

    async def add(self, items: Sequence[Any]) -> None:
        """Write items into the member."""
        self._member.add(await self._write(Items(list(items))), len(items))

    async def finish(self, manifest: Mapping[str, Any]) -> None:
        """Write the manifest and end the archive."""
        await self._write(Finished(dict(manifest), self._members))
        await self._stream.finish()

    async def _write(self, frame: Frame) -> bytes:
        encoded = _ENCODER.encode(frame)
        await self._stream.write(_LENGTH.pack(len(encoded)) + encoded)
        return encoded


async def read_members(chunks: AsyncIterator[bytes]) -> AsyncIterator[Frame]:
    """Read the frames of a decrypted archive and check each member against its digest.

    Raises BackupError for an archive that is not whole, or that another program wrote.
    """
    name, member = "", Member()
    seen: dict[str, tuple[int, str]] = {}
    async for encoded in _frames(chunks):
        try:
            frame: Frame = _DECODER.decode(encoded)
        except msgspec.DecodeError as error:
            raise BackupError("the archive has a part that cannot be read") from error
        match frame:
            case Begin():
                name, member = frame.name, Member()
            case Items():
                member.add(encoded, len(frame.items))
            case End():
                seen[name] = member.summary
                if member.summary != (frame.items, frame.sha256):
                    raise BackupError(f"{name} in the archive is not as it was written")
            case Finished():
                if seen != frame.members:
                    raise BackupError("the archive lacks parts that its manifest names")
        yield frame
    if not isinstance(frame, Finished):
        raise BackupError("the archive has no manifest")


async def _frames(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    waiting = bytearray()
    async for chunk in chunks:
        waiting += chunk
        while len(waiting) >= _LENGTH.size:
            (size,) = _LENGTH.unpack(waiting[: _LENGTH.size])
            if size > _MOST_BYTES:
                raise BackupError("the archive has a part that is too large")
            if len(waiting) < _LENGTH.size + size:
                break
            yield bytes(waiting[_LENGTH.size : _LENGTH.size + size])
            del waiting[: _LENGTH.size + size]
    if waiting:
        raise BackupError("the archive ends within a part")
