"""The pages that are written from the code are up to date."""

from collections.abc import Mapping

import pytest

from gateway.settings import CHECKOUT, PREFIX, Settings


@pytest.fixture(scope="module")
def pages() -> Mapping[str, str]:
    """All pages; making them loads the whole command line, which collecting tests need not."""
    from tools.reference_docs.pages import pages as made

    return made()


def test_all_pages_are_up_to_date(pages):
    for name, text in pages.items():
        assert (CHECKOUT / "docs" / name).read_text() == text, f"{name}: run `make docs`"


def test_every_setting_has_a_row_with_a_meaning(pages):
    rows = [
        line
        for line in pages["reference/settings.md"].splitlines()
        if line.startswith(f"| `{PREFIX}")
    ]
    assert len(rows) == len(Settings.model_fields)
    assert all(len(row.split("|")[4].split()) >= 3 for row in rows)


@pytest.mark.parametrize("command", ["up", "models import", "models rollback", "vectors check"])
def test_every_command_has_help(pages, command):
    assert f"## `aurum {command}`" in pages["reference/commands.md"]


def test_the_example_of_variables_holds_each_setting_once_with_its_default(pages):
    lines = pages["../.env.example"].splitlines()
    shown = [line[1:] for line in lines if line.startswith(f"#{PREFIX}")]
    values = dict(line.split("=", 1) for line in shown)
    assert len(shown) == len(values)
    assert set(values) == {PREFIX + name.upper() for name in Settings.model_fields}
    assert values["AURUM_MATCH_THRESHOLD"] == "0.32"
    assert values["AURUM_DATABASE_URL"] == ""


def test_the_example_of_variables_can_be_used_as_it_is(pages):
    set_lines = [
        line for line in pages["../.env.example"].splitlines() if line[:1] not in ("#", "")
    ]
    assert set_lines == ["COMPOSE_PROFILES=cpu"]
