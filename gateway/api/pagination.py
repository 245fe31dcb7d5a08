"""Cursors: where a page ended, unreadable on purpose, checked when it comes back."""

import base64
import binascii

import orjson

from gateway.errors import InvalidRequestError


def write_cursor(*values: str | float) -> str:
    """Pack what the next page needs."""
    return base64.urlsafe_b64encode(orjson.dumps(values)).decode().rstrip("=")


def read_cursor(text: str | None, *kinds: type) -> tuple[str, ...] | None:
    """Unpack values of these kinds; raises InvalidRequestError for anything we did not write."""
    if text is None:
        return None
    try:
        values = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (binascii.Error, ValueError) as error:
        raise InvalidRequestError("'cursor' is none of ours; send `next_cursor`") from error
    if not isinstance(values, list) or [type(value) for value in values] != list(kinds):
        raise InvalidRequestError("'cursor' is none of ours; send `next_cursor`")
    if any("\0" in value for value in values if isinstance(value, str)):
        # PostgreSQL holds no such text
        raise InvalidRequestError("'cursor' is none of ours; send `next_cursor`")
    return tuple(values)
