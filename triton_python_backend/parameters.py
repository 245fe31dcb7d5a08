"""KServe parameters of a request.

An ensemble passes the parameters of its request to each of its stages (Triton 24.10).
"""

import json
from typing import Any, get_args

from triton_python_backend.contract import (
    DEFAULT_LOOK,
    DETAIL_PARAMETER,
    MAX_FACES_PARAMETER,
    MOST_FACES,
    ROTATION_PARAMETER,
    Detail,
    Look,
    Rotation,
)

_NONE = ("", "{}")


class InvalidParameterError(ValueError):
    """A parameter with an invalid value; the text names both."""


def read_look(parameters: str) -> Look:
    """Read the search options from a request's parameters; other parameters are ignored.

    parameters: a JSON object, as Triton's stub passes it.

    Raises:
        InvalidParameterError: if a search option has an invalid value.

    """
    if parameters in _NONE:
        return DEFAULT_LOOK
    given = json.loads(parameters)
    return Look(
        max_faces=_number(given, MAX_FACES_PARAMETER, DEFAULT_LOOK.max_faces),
        rotation=_choice(given, ROTATION_PARAMETER, get_args(Rotation), DEFAULT_LOOK.rotation),
        detail=_choice(given, DETAIL_PARAMETER, get_args(Detail), DEFAULT_LOOK.detail),
    )


def _number(given: dict[str, Any], name: str, default: int) -> int:
    value = given.get(name, default)
    # a boolean is an int in Python but invalid here; some clients can only send texts
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_FACES:
        message = f"{name} is a whole number from 1 to {MOST_FACES}, not {value!r:.100}"
        raise InvalidParameterError(message)
    return value


def _choice(given: dict[str, Any], name: str, choices: tuple[str, ...], default: str) -> Any:
    value = given.get(name, default)
    if value not in choices:
        message = f"{name} is one of {', '.join(choices)}, not {value!r:.100}"
        raise InvalidParameterError(message)
    return value
