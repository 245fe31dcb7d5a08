import base64

import pytest

from gateway.api.pagination import PageOptions, read_page, write_cursor
from gateway.errors import InvalidRequestError

NAMES = ["anna", "bert", "carl"]


async def names(limit: int, after: tuple[str] | None) -> list[str]:
    return [name for name in NAMES if after is None or name > after[0]][:limit]


async def page_of(limit: int, cursor: str | None = None):
    options = PageOptions(limit=limit, cursor=cursor)
    return await read_page(options, names, position=lambda name: (name,))


async def test_pages_follow_one_another_and_the_last_has_no_cursor():
    first = await page_of(2)
    second = await page_of(2, first.next_cursor)
    assert (first.items, second.items) == (["anna", "bert"], ["carl"])
    assert second.next_cursor is None
    assert (await page_of(3)).next_cursor is None, "a page that is just full is the last one"


def cursor_of(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "cursor",
    ["", "é", "x", cursor_of("{}"), cursor_of("[1]"), cursor_of('["a", "b"]'), write_cursor("a\0")],
)
async def test_a_cursor_of_another_make_is_refused(cursor):
    with pytest.raises(InvalidRequestError, match="cursor"):
        await page_of(1, cursor)
