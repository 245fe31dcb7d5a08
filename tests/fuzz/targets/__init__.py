"""The targets: functions of bytes that fail when something does not hold; by name in `TARGETS`."""

from collections.abc import Callable
from typing import Final

from tests.fuzz.targets import archives, credentials, documents, forms, images

Target = Callable[[bytes], None]

TARGETS: Final[dict[str, Target]] = {
    "sniff": images.sniff_and_read,
    "walk": images.walk,
    "orientation": images.orientation,
    "decode": images.decode_what_the_header_says,
    "cursors": documents.cursors,
    "json": documents.json_limits,
    "kserve": documents.kserve,
    "credentials": credentials.keys_and_headers,
    "tokens": credentials.tokens,
    "key_sets": credentials.key_sets,
    "archives": archives.archives,
    "forms": forms.forms,
}
"""By the name that `python -m tests.fuzz` takes."""
