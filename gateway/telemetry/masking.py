"""Hides what must not be in a log: keys, tokens, passwords in URLs.

Nothing of Aurum logs a secret. But a caller may send one where no secret belongs, as the id of a
request or in a path, and an error of a library may quote one.
"""

import re
from typing import Final

_SECRETS: Final = (
    # an API key, whole or cut off; its id is no secret
    (re.compile(r"(aur_[0-9a-z]{12}_)[0-9A-Za-z]+(?:_[0-9A-Za-z]*)?"), r"\1…"),
    # a JSON Web Token: all begin with `{"` in base64. Not within a word, which would be searched
    # anew from each of its letters, but behind the escapes of JSON
    (re.compile(r"(?:(?<![\w-])|(?<=\\[nrt]))eyJ[\w-]*\.[\w-]+(?:\.[\w-]*)?"), "eyJ…"),
    # the secret that signs webhooks
    (re.compile(r"(whs_)[\w-]{16,}"), r"\1…"),
    (re.compile(r"(://)[^\s/@\"?#]+@"), r"\1…@"),
)


def mask(text: str) -> str:
    """Replace secrets in a text by `…`."""
    for pattern, shown in _SECRETS:
        text = pattern.sub(shown, text)
    return text


def has_secret(text: str) -> bool:
    """Whether a text contains what `mask` replaces."""
    return mask(text) != text
