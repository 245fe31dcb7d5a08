"""What a decoder process and its owner say to each other, and where the bytes lie.

Each decoder has a socket that keeps the borders of messages, and memory that both sides map:
first the encoded image, then its header (a pickle, which only the owner writes), then, at the next
multiple of 64, the pixels. A decoder that a picture has taken over can write anything into both;
so nothing that comes from it is more than numbers, pixels and a text.
"""

import struct
from dataclasses import dataclass
from typing import Final

SPAWN: Final = struct.Struct("<i")
"""To the process that forks: start a decoder of this niceness, with the socket and the memory
sent along."""
HELLO: Final = struct.Struct("<i")
"""The first message of a decoder: its process id."""
REQUEST: Final = struct.Struct("<QQQi")
"""Bytes of the image, bytes of the header, bytes of the memory, reduction (0: the decoder's own
choice)."""
REPLY: Final = struct.Struct("<BIIIII")
"""Outcome, rows and columns of the pixels, width, height and reduction of the picture; a text
follows if there are no pixels."""
LONGEST_REPLY: Final = 1024
DECODED, INVALID, FAILED = range(3)
"""Outcomes: pixels; not a decodable image; the decoder could not do its work."""
_ALIGNMENT: Final = 64


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things lie in the memory, in bytes."""

    image: int
    header: int

    @property
    def pixels_at(self) -> int:
        """Where the pixels begin."""
        return -(-(self.image + self.header) // _ALIGNMENT) * _ALIGNMENT
