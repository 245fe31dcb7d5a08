"""Ids of weights, as the graphs output them."""

import hashlib


def make_id(*builder: bytes | str) -> int:
    """Return the first 8 bytes of the SHA-256 over the concatenated parts, as signed INT64."""
    digest = hashlib.sha256()
    for part in builder:
        digest.update(part.encode() if isinstance(part, str) else part)
    return int.from_bytes(digest.digest()[:8], "big", signed=True)
