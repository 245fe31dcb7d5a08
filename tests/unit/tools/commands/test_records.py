"""`aurum records downgrade`."""

import asyncio
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.records.factory import open_records
from gateway.settings import Settings
from tools.commands.records import app


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AURUM_HOME", str(tmp_path))
    return tmp_path


def tables(home: Path) -> str:
    async def look() -> str:
        records = await open_records(Settings(home=home))
        try:
            return await records.health()
        finally:
            await records.close()

    return asyncio.run(look())


def test_tables_go_back_and_the_next_start_brings_them_forth(home: Path) -> None:
    newest = tables(home)
    result = CliRunner().invoke(app, ["downgrade", "0006"])
    assert (result.exit_code, result.stdout) == (0, "The tables are those of 0006.\n")
    again = CliRunner().invoke(app, ["downgrade", "0008"])
    assert again.exit_code == 1
    assert "choose one of 0006 to 0006" in again.stderr
    assert tables(home) == newest
