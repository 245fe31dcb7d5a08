"""What is found in an archive, and what an archive may cost."""

import os
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final


class Fault(Enum):
    """Why a member, or the rest of an archive, is not read.

    HOSTILE: it is made to harm, or nothing that an archive of photos needs: a link, a path that
    leads out, an archive within an archive, encryption, contents far larger than the archive.
    """

    HOSTILE = auto()
    TOO_LARGE = auto()
    DAMAGED = auto()


@dataclass(frozen=True, slots=True)
class ImageMember:
    """An image. name: its path within the archive. weight: bytes of the archive read for it."""

    name: str
    data: bytes
    weight: int


@dataclass(frozen=True, slots=True)
class OtherMember:
    """A file that is no image."""

    name: str
    weight: int


@dataclass(frozen=True, slots=True)
class RefusedMember:
    """A member that is not read, or the archive itself (name is None), which ends there."""

    name: str | None
    reason: str
    fault: Fault
    weight: int = 0


Member = ImageMember | OtherMember | RefusedMember


@dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may cost.

    member_bytes: largest member. members: their number. ratio, slack_bytes: its contents have at
    most `ratio` times its bytes and `slack_bytes` more, and at most `most_bytes` if that is given.
    """

    member_bytes: int = 256 << 20
    members: int = 1_000_000
    ratio: int = 200
    slack_bytes: int = 64 << 20
    most_bytes: int | None = None

    def is_capped(self, archive_bytes: int) -> bool:
        """Whether `most_bytes` is what limits an archive, not its size."""
        return self.total_bytes(archive_bytes) == self.most_bytes

    def total_bytes(self, archive_bytes: int) -> int:
        """Most bytes that an archive may unpack to."""
        most = self.ratio * archive_bytes + self.slack_bytes
        return most if self.most_bytes is None else min(most, self.most_bytes)


DEFAULT_LIMITS: Final = Limits()


class BombError(Exception):
    """The archive costs more than it may."""


class UnpacksTooFarError(BombError):
    """The archive unpacks to more bytes than it may."""


def text_of(path: str) -> str:
    r"""Return a path as text that can be written: bytes that are no UTF-8 become `\xNN`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
