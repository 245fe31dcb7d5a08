"""Reads the credentials of a request from its headers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from gateway.errors import UnauthorizedError
from gateway.security.api_keys import PREFIX

KEY_HEADER: Final = "X-API-Key"
_AUTHORIZATION: Final = "Authorization"
_HOW: Final = f"send an API key as `{KEY_HEADER}: aur_…` or `{_AUTHORIZATION}: Bearer aur_…`"
_TOKEN_DOTS: Final = 2


@dataclass(frozen=True, slots=True)
class Credentials:
    """A key or a token, not yet checked; its text is in no `repr`."""

    kind: Literal["key", "token"]
    text: str = field(repr=False)


def read_credentials(headers: Mapping[str, str]) -> Credentials:
    """Read one key or token; raises UnauthorizedError, which quotes nothing of what was sent."""
    given = [*_values(headers, _AUTHORIZATION), *_values(headers, KEY_HEADER)]
    if not given:
        raise UnauthorizedError(f"this needs a key: {_HOW}", refused=False)
    if len(given) > 1:
        raise UnauthorizedError(f"send one key or token, not {len(given)}")
    text = given[0].strip()
    if not _values(headers, KEY_HEADER):
        scheme, _, text = text.partition(" ")
        text = text.strip()
        if scheme.lower() != "bearer" or not text:
            raise UnauthorizedError(f"{_AUTHORIZATION} is not understood: {_HOW}")
    if text.startswith(PREFIX):
        return Credentials("key", text)
    if text.count(".") == _TOKEN_DOTS:
        return Credentials("token", text)
    raise UnauthorizedError(f"neither an API key nor a token: {_HOW}")


def _values(headers: Mapping[str, str], name: str) -> list[str]:
    """List all values of a header that may occur twice."""
    values = getattr(headers, "getall", None)
    if values is not None:
        return list(values(name, []))
    return [value for key, value in headers.items() if key.lower() == name.lower()]
