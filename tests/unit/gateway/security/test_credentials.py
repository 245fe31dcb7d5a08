import pytest

from gateway.errors import UnauthorizedError
from gateway.security.credentials import read_credentials

KEY, TOKEN = "aur_a_secret_c", "a.secret.c"


@pytest.mark.parametrize(
    ("headers", "kind", "text"),
    [
        ({"Authorization": f"Bearer {KEY}"}, "key", KEY),
        ({"authorization": f"bearer  {KEY} "}, "key", KEY),
        ({"x-api-key": KEY}, "key", KEY),
        ({"Authorization": f"Bearer {TOKEN}"}, "token", TOKEN),
    ],
)
def test_credentials_are_read(headers, kind, text):
    found = read_credentials(headers)
    assert (found.kind, found.text) == (kind, text)
    assert "secret" not in repr(found)


def test_without_credentials_nothing_was_refused():
    with pytest.raises(UnauthorizedError, match="X-API-Key") as caught:
        read_credentials({"Accept": "*/*"})
    assert not caught.value.refused


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": KEY},
        {"Authorization": "Bearer"},
        {"Authorization": ""},
        {"Authorization": "Bearer secret"},
        {"X-API-Key": ""},
        {"X-API-Key": "secret.x"},
        {"X-API-Key": KEY, "Authorization": f"Bearer {KEY}"},
    ],
)
def test_other_credentials_are_refused_and_not_quoted(headers):
    with pytest.raises(UnauthorizedError) as caught:
        read_credentials(headers)
    assert caught.value.refused
    assert "secret" not in caught.value.detail


def test_a_header_sent_twice_is_refused():
    class Twice(dict[str, str]):
        """Headers as aiohttp has them."""

        def getall(self, name, default):
            return [KEY, KEY] if name == "X-API-Key" else default

    with pytest.raises(UnauthorizedError, match="not 2"):
        read_credentials(Twice())
