"""Archives: whatever they hold, reading them ends, within the limits, with members."""

import io
from typing import Final

from gateway.archives.reader import is_archive, is_other_archive, read_members
from gateway.archives.types import ImageMember, Limits

_LIMITS: Final = Limits(
    member_bytes=4096, members=20, ratio=10, slack_bytes=16_384, most_bytes=65_536
)


def archives(data: bytes) -> None:
    """No error leaves the reader, no limit is exceeded, and every name can be written."""
    is_archive(data)
    is_other_archive(data)
    taken = 0
    for count, member in enumerate(read_members(io.BytesIO(data), _LIMITS)):
        # one more, for the refusal of the archive itself
        assert count <= _LIMITS.members + 1
        if member.name is not None:
            member.name.encode()
        if isinstance(member, ImageMember):
            assert len(member.data) <= _LIMITS.member_bytes
            taken += len(member.data)
    assert taken <= _LIMITS.total_bytes(len(data))
