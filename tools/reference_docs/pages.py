"""Pages and tables of docs/ that are written from the code.

A test compares the pages in the checkout with what this would write.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

import typer
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from typer.cli import get_docs_for_click

from gateway.error_policy import KIND_MEANINGS, POLICIES, Policy
from gateway.settings import CHECKOUT, PREFIX, Settings
from tools.reference_docs import access_matrix
from tools.reference_docs.dashboards import dashboard_files
from tools.reference_docs.env_example import env_example

FOLDER: Final = CHECKOUT / "docs"
_MADE: Final = "<!-- Written by `make docs`; do not edit. -->\n\n"
_SETTINGS_HEAD: Final = """# Settings

Each setting is an environment variable; its unit is the end of its name. A misspelt variable stops
the start with its name.

| variable | values | default | meaning |
|---|---|---|---|
"""
_ERRORS_HEAD: Final = """# Errors

Every error is `application/problem+json` (RFC 9457); `code` is stable and meant for programs,
`detail` is a sentence for people. The kinds say who has to change something:

| kind | what is wrong |
|---|---|
"""
_ERRORS_TABLE: Final = """
- *job*: the same request may succeed later, so a job tries such an image again, with growing
  pauses.
- *client*: a client should send the request again by itself after a pause, at least as long as
  `Retry-After`.
- *fallback*: the [fallback engine](architecture.md#when-triton-is-away) may answer instead of
  Triton.

| code | kind | status | job | client | fallback | `Retry-After` | what the service does |
|---|---|---|---|---|---|---|---|
"""


def pages() -> Mapping[str, str]:
    """Return the text of each page by its path, seen from `docs/`."""
    return {
        "../.env.example": env_example(),
        **{
            f"../deploy/grafana/dashboards/{name}": text for name, text in dashboard_files().items()
        },
        "errors.md": errors_page(),
        "reference/settings.md": settings_page(),
        "reference/commands.md": commands_page(),
        "security.md": access_matrix.fill_in((FOLDER / "security.md").read_text()),
    }


def errors_page() -> str:
    """Return the table of all error codes."""
    kinds = "".join(f"| {kind} | {meaning} |\n" for kind, meaning in KIND_MEANINGS.items())
    rows = "".join(_error_row(code, policy) for code, policy in POLICIES.items())
    return _MADE + _ERRORS_HEAD + kinds + _ERRORS_TABLE + rows


def _error_row(code: str, policy: Policy) -> str:
    marks = ["yes" if each else "no" for each in (policy.retry, policy.client_retry)]
    if policy.retry_after == "sometimes":
        marks = [mark if mark == "no" else "with `Retry-After`" for mark in marks]
    cells = [
        f"`{code}`",
        policy.kind,
        str(policy.status),
        *marks,
        "yes" if policy.fall_back else "no",
        policy.retry_after,
        policy.action,
    ]
    return f"| {' | '.join(cells)} |\n"


def settings_page() -> str:
    """Return a table of all settings."""
    rows = "".join(
        f"| `{PREFIX}{name.upper()}` | {_values(field)} | {_default(field.default)} |"
        f" {_sentence(field.description or '')} |\n"
        for name, field in Settings.model_fields.items()
    )
    return _MADE + _SETTINGS_HEAD + rows


def commands_page() -> str:
    """Return the help of `aurum` and all its commands."""
    # the command line imports what it runs: only this page needs it
    from tools.__main__ import app

    command = typer.main.get_command(app)
    context = typer.Context(command, info_name="aurum")
    return _MADE + get_docs_for_click(obj=command, ctx=context, name="aurum").strip() + "\n"


def write(folder: Path = FOLDER) -> None:
    """Write all pages."""
    for name, text in pages().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def _values(field: FieldInfo) -> str:
    kind: Any = field.annotation
    choices = [each for each in get_args(kind) if each is not type(None)]
    if get_origin(kind) is Literal:
        return ", ".join(f"`{choice}`" for choice in choices)
    if choices:
        kind = choices[0]
    name = {int: "integer", float: "number", str: "text", Path: "path", SecretStr: "secret"}[kind]
    limits = {
        symbol: value
        for each in field.metadata
        for symbol, value in (
            (">", getattr(each, "gt", None)),
            ("≥", getattr(each, "ge", None)),
            ("<", getattr(each, "lt", None)),
            ("≤", getattr(each, "le", None)),
        )
        if value is not None
    }
    return " ".join(
        [name, ", ".join(f"{symbol} {value}" for symbol, value in limits.items())]
    ).strip()


def _default(value: object) -> str:
    if value is None or value == "":
        return ""
    if isinstance(value, Path) and value.is_relative_to(CHECKOUT):
        return f"`{value.relative_to(CHECKOUT)}/` of the checkout"
    return f"`{value}`"


def _sentence(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
