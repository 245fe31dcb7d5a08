"""The text of `.env.example`: every setting with its meaning, and what only Compose files use."""

import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from gateway.settings import CHECKOUT, PREFIX, Settings

_COLUMNS: Final = 100
_HEAD: Final = """\
# Written by `make docs` from the settings; do not edit. Copy this file to .env, where
# `docker compose` finds it; for `make run`, read it with `set -a; . ./.env; set +a` first. A line
# that begins with #AURUM_ shows a default: remove the # to change it.
#
# Put secrets into files instead where you can: AURUM_SECRETS_FOLDER, and docs/compose.md.
"""
COMPOSE_VARIABLES: Final[tuple[tuple[str, str, str], ...]] = (
    (
        "COMPOSE_PROFILES",
        "cpu",
        "Triton: `cpu` on any machine, or `gpu` (NVIDIA's image).",
    ),
    (
        "IMAGE_PREFIX",
        "aurum-",
        "What the names of our images begin with, for example `registry.example.com/aurum-`.",
    ),
    ("IMAGE_TAG", "0.1.0", "Tag of our images."),
    (
        "SECRETS",
        "./secrets",
        "Folder with the secrets of the production stack, which deploy/compose/secrets.sh makes.",
    ),
    ("GATEWAYS", "2", "Gateways of the production stack."),
    ("WORKERS", "2", "Workers for jobs of the production stack."),
)
"""Variables that only the Compose files read: name, default, meaning."""
_SECTION: Final = re.compile(
    r"^    # (?P<section>[A-Z][A-Za-z, ]+)$|^    (?P<field>\w+): ", re.MULTILINE
)


def env_example() -> str:
    """Return the text of `.env.example`."""
    return "\n".join(_lines()) + "\n"


def sections() -> dict[str, list[str]]:
    """Return the names of the settings by the comment above their group."""
    found: dict[str, list[str]] = {}
    section = ""
    for match in _SECTION.finditer(inspect.getsource(Settings)):
        if match["section"]:
            section = match["section"]
        elif match["field"] in Settings.model_fields:
            found.setdefault(section, []).append(match["field"])
    return found


def _lines() -> Iterator[str]:
    yield _HEAD
    yield _title("Compose files")
    for name, default, meaning in COMPOSE_VARIABLES:
        yield from _comment(meaning)
        yield f"{name}={default}" if name == "COMPOSE_PROFILES" else f"#{name}={default}"
    for section, names in sections().items():
        yield ""
        yield _title(section)
        for name in names:
            field = Settings.model_fields[name]
            yield from _comment(f"{field.description or ''} {_choices(field)}")
            yield f"#{PREFIX}{name.upper()}={_value(field.default)}"


def _title(text: str) -> str:
    return f"# ---- {text} ".ljust(_COLUMNS, "-")


def _comment(text: str) -> list[str]:
    return textwrap.wrap(
        " ".join(text.split()), _COLUMNS, initial_indent="# ", subsequent_indent="# "
    )


def _choices(field: FieldInfo) -> str:
    kind: Any = field.annotation
    if get_origin(kind) is Literal:
        return f"({', '.join(get_args(kind))})"
    return "(secret)" if SecretStr in (kind, *get_args(kind)) else ""


def _value(default: object) -> str:
    if default is None:
        return ""
    if isinstance(default, Path) and default.is_relative_to(CHECKOUT):
        return f"./{default.relative_to(CHECKOUT)}"
    return str(default)
