"""The pages that are written from the code are up to date."""

import pytest

from gateway.settings import PREFIX, Settings
from tools import reference_docs

PAGES = reference_docs.pages()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_up_to_date(name):
    assert (reference_docs.FOLDER / name).read_text() == PAGES[name], "run `make docs`"


def test_every_setting_has_a_row_with_a_meaning():
    rows = [
        line
        for line in PAGES["reference/settings.md"].splitlines()
        if line.startswith(f"| `{PREFIX}")
    ]
    assert len(rows) == len(Settings.model_fields)
    assert all(len(row.split("|")[4].split()) >= 3 for row in rows)


@pytest.mark.parametrize("command", ["up", "models import", "models rollback", "vectors check"])
def test_every_command_has_help(command):
    assert f"## `aurum {command}`" in PAGES["reference/commands.md"]
