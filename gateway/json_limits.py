"""Refuses JSON that is costly to parse, before anything parses it, and duplicate keys.

Ten million empty objects have 30 MB, and parsing and checking them holds the interpreter lock for
minutes; 40,000 brackets kill Triton 24.10.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gateway.errors import InvalidRequestError

_BLOCK_BYTES: Final = 1 << 20
"""Bytes counted at a time, so that counting needs little memory and other threads run between."""


@dataclass(frozen=True, slots=True)
class JsonBounds:
    """Limits of a document. commas: including those within texts; None for any number."""

    depth: int
    objects: int
    texts: int
    commas: int | None = None


def refuse_costly(data: bytes, bounds: JsonBounds) -> None:
    """Refuse JSON that costs more than its bytes: deep nesting, many objects, texts or values.

    Counts in linear time, without recursion, and ignores brackets within texts. Raises
    InvalidRequestError.
    """
    if bounds.commas is not None and _count(data, b",") > bounds.commas:
        raise InvalidRequestError(f"JSON may have at most {bounds.commas} values")
    opened = _count(data, b"[") + _count(data, b"{")
    if _count(data, b'"') <= 2 * bounds.texts and opened <= min(bounds.depth, bounds.objects):
        # too few of them to exceed a limit; this saves most requests the work
        return
    depth, objects, quotes = 0, 0, 0
    for code, inside in _blocks(data):
        quotes += int((code == ord('"')).sum())
        braces = (code == ord("{")) & ~inside
        objects += int(braces.sum())
        step = (braces | ((code == ord("[")) & ~inside)).astype(np.int32)
        step -= ((code == ord("}")) | (code == ord("]"))) & ~inside
        levels = depth + step.cumsum()
        depth = int(levels[-1])
        if levels.max() > bounds.depth:
            raise InvalidRequestError(f"JSON may be nested at most {bounds.depth} levels deep")
        if objects > bounds.objects or quotes > 2 * bounds.texts:
            message = f"JSON may have at most {bounds.objects} objects and {bounds.texts} texts"
            raise InvalidRequestError(message)


def refuse_doubled(text: bytes | str) -> None:
    """Refuse valid JSON with a duplicate key, or NUL in a key.

    Fast parsers silently keep the last of two values; Python's own sees both. Raises
    InvalidRequestError.
    """
    try:
        json.loads(text, object_pairs_hook=_refuse_pairs)
    except ValueError as error:
        # Python refuses numbers of thousands of digits
        raise InvalidRequestError(f"JSON cannot be read: {str(error)[:100]}") from error


def _refuse_pairs(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise InvalidRequestError(f"JSON field {key[:100]!r} is given twice")
        if "\0" in key:
            raise InvalidRequestError("a key contains the character NUL")
        seen.add(key)


def _count(data: bytes, what: bytes) -> int:
    return sum(
        data.count(what, start, start + _BLOCK_BYTES) for start in range(0, len(data), _BLOCK_BYTES)
    )


def _blocks(data: bytes) -> Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]]:
    """Yield the characters in blocks, each with a mask of those within texts."""
    # escapes occur within texts only
    plain = np.frombuffer(data.replace(b"\\\\", b"").replace(b'\\"', b""), dtype=np.uint8)
    in_text = False
    for start in range(0, plain.size, _BLOCK_BYTES):
        code = plain[start : start + _BLOCK_BYTES]
        # a quote opens a text or closes it
        inside = np.logical_xor.accumulate(code == ord('"')) ^ in_text
        in_text = bool(inside[-1])
        yield code, inside
