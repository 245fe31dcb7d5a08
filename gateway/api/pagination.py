"""Pages of lists: their query parameters, their cursor and the shape that they share."""

import base64
import binascii
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import orjson
from pydantic import Field

from gateway.api.shapes import Shape
from gateway.errors import InvalidRequestError

MAX_LIMIT: Final = 1000
T = TypeVar("T")
Position = tuple[Any, ...]
"""Values of the last entry of a page, by which the list is ordered."""


class PageOptions(Shape):
    """Query parameters of lists."""

    limit: int = Field(default=100, ge=1, le=MAX_LIMIT)
    """Most entries of a page."""
    cursor: str | None = Field(default=None, max_length=1024)
    """`next_cursor` of the previous page."""


class PageOut(Shape):
    """A page of a list."""

    request_id: str
    next_cursor: str | None
    """Send it as `cursor` for the next page; null on the last one."""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Entries of a page, and the cursor of the next one; None on the last page."""

    items: Sequence[T]
    next_cursor: str | None


async def read_page(
    options: PageOptions,
    fetch: Callable[[int, Any], Awaitable[Sequence[T]]],
    *,
    position: Callable[[T], Position],
    kinds: tuple[type, ...] = (str,),
) -> Page[T]:
    """Read one page of a list.

    Args:
        options: of the request.
        fetch: reads at most so many entries behind a position; None reads from the start.
        position: of an entry.
        kinds: types of the values of a position.

    Raises InvalidRequestError for a cursor that this gateway did not write.
    """
    # one more, to see whether there is a next page
    found = await fetch(options.limit + 1, read_cursor(options.cursor, *kinds))
    items = found[: options.limit]
    more = len(found) > options.limit
    return Page(items, write_cursor(*position(items[-1])) if more else None)


def write_cursor(*values: str | float) -> str:
    """Pack a position; opaque on purpose, so that clients do not build their own."""
    return base64.urlsafe_b64encode(orjson.dumps(values)).decode().rstrip("=")


def read_cursor(text: str | None, *kinds: type) -> Position | None:
    """Unpack a position of these types; raises InvalidRequestError for anything else."""
    if text is None:
        return None
    refusal = "'cursor' is not valid; send `next_cursor` of the previous page"
    try:
        values = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (binascii.Error, ValueError) as error:
        raise InvalidRequestError(refusal) from error
    if not isinstance(values, list) or [type(value) for value in values] != list(kinds):
        raise InvalidRequestError(refusal)
    if any("\0" in value for value in values if isinstance(value, str)):
        # PostgreSQL cannot store NUL
        raise InvalidRequestError(refusal)
    return tuple(values)
