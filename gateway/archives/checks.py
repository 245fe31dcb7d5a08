"""Which members are refused by their names and sizes, and how an image is read."""

from pathlib import PurePosixPath
from typing import IO, Final

from gateway.archives.image_names import HEAD_BYTES, is_image
from gateway.archives.types import Fault, Limits, UnpacksTooFarError

_NESTED: Final = frozenset(
    (
        *(".zip", ".tar", ".tgz", ".gz", ".bz2", ".tbz2", ".xz", ".txz"),
        *(".zst", ".lz4", ".7z", ".rar", ".jar", ".cbz", ".cbr"),
    )
)
Refusal = tuple[Fault, str]
LINK: Final[Refusal] = (Fault.HOSTILE, "is a link")
SPECIAL: Final[Refusal] = (Fault.HOSTILE, "is no regular file")
ENCRYPTED: Final[Refusal] = (Fault.HOSTILE, "is encrypted")


def refuse_path(member: str) -> Refusal | None:
    """Refuse a path that leads out of the archive, and an archive within it."""
    path = PurePosixPath(member.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (member[1:2] == ":" and member[0].isalpha()):
        return Fault.HOSTILE, "has a path that leads out of the archive"
    if path.suffix.lower() in _NESTED:
        return Fault.HOSTILE, "is an archive within an archive"
    return None


def refuse_size(size: int, limits: Limits) -> Refusal | None:
    """Refuse a member by the size in its header."""
    if size > limits.member_bytes:
        return Fault.TOO_LARGE, f"has {size:,} bytes, {limits.member_bytes:,} may be"
    return None


def read_image(opened: IO[bytes], member: str, most: int) -> bytes | None:
    """Read a member to its end if it is an image; the rest of anything else stays unread."""
    head = opened.read(HEAD_BYTES)
    if not is_image(member, head):
        return None
    data = head + opened.read(max(most - len(head), 0) + 1)
    if len(data) > most:
        raise UnpacksTooFarError
    return data
