"""The chain of audit lines: each line holds the hash of the line before it, and its own.

A hash covers every column of its line and the hash of the line before, so that nobody can change,
remove, insert or reorder lines without breaking the chain from there on. With a key
(`audit_keys.AuditKeys`) it is an HMAC-SHA-256, which nobody can compute who has the database only.
Lines written before there was a chain were chained by the migration with plain SHA-256.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any, Final

FIRST: Final = "0" * 64
"""What the first line of all holds as the hash before it."""
_COVERED: Final = (
    "id",
    "at",
    "tenant",
    "actor",
    "action",
    "collection",
    "receipt",
    "counts",
    "request_id",
    "outcome",
    "expired_through",
    "expired_hash",
    "key_id",
    "prev",
)
"""The columns that a hash covers. A later column may only be added for lines that have it: hashes
of stored lines do not change."""


def hash_of(row: Mapping[str, Any], key: bytes | None) -> str:
    """Hash a line, 64 hexadecimal digits; `row` has all columns but `hash`."""
    content = {name: row[name] for name in _COVERED}
    # both databases return `at` as the same double, and JSON writes it exactly
    content["at"] = float(content["at"])
    content["counts"] = dict(content["counts"])
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    if key is None:
        return hashlib.sha256(text.encode()).hexdigest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
