"""`aurum audit` with a real bucket: head, verification by anchors, export."""

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway.concurrency import BackgroundTasks
from gateway.errors import StorageUnavailableError
from gateway.monitoring.audit_watch import watch_audit
from gateway.records.audit import AuditRecords
from gateway.records.factory import open_records
from gateway.settings import Settings
from tests.contract.test_audit_chain import a_line
from tests.support.object_server import ObjectServer, object_server
from tools.commands.audit import app


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectServer]:
    with object_server() as running:
        yield running


@pytest.fixture
def anchored(server: ObjectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A log of six lines that two gateways anchored, the second one after the sixth."""
    stored: dict[str, Any] = server.settings()
    stored.pop("object_store_url")
    url = f"s3://jobs/{tmp_path.parent.name}/{tmp_path.name}"
    settings = Settings(home=tmp_path / "home", audit_anchor_url=url, **stored)

    async def fill() -> None:
        records = await open_records(settings)
        try:
            for first in (0, 3):
                async with (
                    BackgroundTasks() as tasks,
                    watch_audit(settings, records.audit, tasks),
                ):
                    for number in range(first, first + 3):
                        await records.audit.add(a_line(number))
        finally:
            await records.close()

    asyncio.run(fill())
    monkeypatch.setenv("AURUM_HOME", str(settings.home))
    monkeypatch.setenv("AURUM_AUDIT_ANCHOR_URL", url)
    for name, value in stored.items():
        monkeypatch.setenv(f"AURUM_{name.upper()}", value)
    return settings


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, arguments)


def tamper(settings: Settings, statement: str) -> None:
    with sqlite3.connect(settings.home / "records.sqlite3") as connection:
        for name in ("audit_no_update", "audit_no_delete", "audit_in_order"):
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute(statement)
    connection.close()


def test_a_whole_log_is_verified_shown_and_exported(anchored: Settings) -> None:
    head = json.loads(run("head").stdout)
    assert (anchored.home / "audit.anchor").read_text().splitlines()[-1] == run("head").stdout[:-1]
    assert head["line"] == 6
    verified = run("verify")
    assert verified.exit_code == 0, verified.output
    assert "6 lines, 1 to 6, are as they were written" in verified.output
    found = json.loads(run("verify", "--json").stdout)
    assert found["problem"] is None
    # in the file and in the bucket, each time the head had changed
    assert found["anchors"] >= 4
    # a line of each verification
    assert (found["lines"], json.loads(run("head").stdout)["line"]) == (7, 8)
    lines = [json.loads(line) for line in run("export", "--tenant", "acme").stdout.splitlines()]
    # the last one is about this export
    assert [line["id"] for line in lines] == [1, 3, 5, 9]
    assert {line["tenant"] for line in lines} == {"acme"}
    since = run("export", "--since", "1970-01-01T00:16:42Z", "--until", "1970-01-01T00:16:44Z")
    assert [json.loads(line)["id"] for line in since.stdout.splitlines()] == [3, 4]


def test_verifications_and_exports_are_recorded(
    anchored: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for command in (("verify",), ("export",), ("export", "--tenant", "acme")):
        assert run(*command).exit_code == 0
    monkeypatch.setenv("AURUM_AUDIT_READS", "off")
    for command in (("verify",), ("export",)):
        assert run(*command).exit_code == 0
    found = [json.loads(line) for line in run("export").stdout.splitlines()][6:]
    assert [(each["action"], each["tenant"], each["outcome"]) for each in found] == [
        ("verify_audit", "", "ok"),
        ("export_audit", "", "begun"),
        ("export_audit", "acme", "begun"),
    ]
    assert {each["actor"] for each in found} == {"aurum audit"}
    assert found[0]["counts"]["lines"] == 6


def test_a_log_that_cannot_be_written_is_verified(
    anchored: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> None:
        raise StorageUnavailableError("records: read only")

    monkeypatch.setattr(AuditRecords, "add", refuse)
    verified = run("verify")
    assert verified.exit_code == 0
    assert "6 lines" in verified.output
    assert "no line of this verification: records: read only" in verified.output
    # what an export shows is not shown without a line
    exported = run("export")
    assert (exported.exit_code, exported.stdout) == (1, "")


def test_the_first_bad_line_is_named(anchored: Settings) -> None:
    tamper(anchored, "UPDATE audit SET outcome = 'ok ' WHERE id = 4")
    verified = run("verify")
    assert verified.exit_code == 1
    assert "line 4 of the audit log: it was changed" in verified.output
    # evidence is left as it is
    assert json.loads(run("head").stdout)["line"] == 6


@pytest.mark.parametrize("lost", ["file", "bucket"])
def test_either_anchor_shows_what_was_cut_off(
    anchored: Settings, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    tamper(anchored, "DELETE FROM audit WHERE id > 4")
    if lost == "file":
        (anchored.home / "audit.anchor").unlink()
    else:
        monkeypatch.delenv("AURUM_AUDIT_ANCHOR_URL")
    verified = run("verify")
    assert verified.exit_code == 1
    assert "line 6 of the audit log: the log ends at line 4" in verified.output


def test_a_bucket_that_is_away_fails_the_verification(
    anchored: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AURUM_OBJECT_STORE_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("AURUM_OBJECT_STORE_TIMEOUT_SECONDS", "1")
    verified = run("verify")
    assert verified.exit_code == 1
    assert "AURUM_AUDIT_ANCHOR_URL failed" in verified.output


def test_a_time_that_is_none_is_refused(anchored: Settings) -> None:
    refused = run("export", "--since", "yesterday")
    assert refused.exit_code == 1
    assert "not a time: 'yesterday'" in refused.output
