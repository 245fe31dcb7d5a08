"""`aurum vectors move`, in this process, without the stores."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.vectors.base import VectorCollection
from tests.support.records import add_migrated_sqlite
from tools.commands import vectors
from tools.vector_copy import Moved, MoveError


@pytest.mark.parametrize("fails", [False, True])
def test_a_move_is_recorded_when_it_begins_and_when_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    add_migrated_sqlite(tmp_path / "records.sqlite3")
    monkeypatch.setenv("AURUM_HOME", str(tmp_path))
    monkeypatch.setenv("AURUM_QDRANT_URL", "http://127.0.0.1:1")

    async def move(*_: object) -> tuple[Moved, ...]:
        if fails:
            raise MoveError("the stores differ")
        return tuple(Moved(VectorCollection("acme", f"c{n}", "0" * 16), 5, "0") for n in range(2))

    monkeypatch.setattr(vectors, "_move_all", move)
    result = CliRunner().invoke(vectors.app, ["move", "--to", "server"])
    assert result.exit_code == fails, result.output
    with closing(sqlite3.connect(tmp_path / "records.sqlite3")) as connection:
        query = "SELECT actor, action, tenant, counts, outcome FROM audit ORDER BY id"
        lines = list(connection.execute(query))
    who = ("aurum vectors move --to server", "move_vectors", "")
    ended = (*who, '{"vector_collections": 2, "vectors": 10}', "ok")
    assert lines == [(*who, "{}", "begun"), *([] if fails else [ended])]
