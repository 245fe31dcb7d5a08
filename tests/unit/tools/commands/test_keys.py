"""`aurum keys`, in this process, on the records of a home."""

import json
import sqlite3
from contextlib import closing

import pytest
from typer.testing import CliRunner

from gateway.records.keys import ApiKeyRecord
from gateway.security.api_keys import ApiKey
from tests.support.records import add_migrated_sqlite
from tools.commands.keys import _document, app


@pytest.fixture
def keys(tmp_path, monkeypatch):
    add_migrated_sqlite(tmp_path / "records.sqlite3")
    monkeypatch.setenv("AURUM_HOME", str(tmp_path))
    monkeypatch.setenv("AURUM_AUTHENTICATION", "on")

    def run(*arguments, status=0):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == status, result.output
        return result

    return run


def test_the_secret_alone_is_on_standard_output(keys, tmp_path):
    result = keys("create", "--name", "shop", "--role", "infer", "--role", "search")
    key = ApiKey.parse(result.stdout.strip())
    assert key is not None
    assert key.text not in result.stderr
    assert "may infer, search" in result.stderr
    listed = keys("list", "--json")
    assert key.text.split("_")[2] not in listed.stdout
    (record,) = json.loads(listed.stdout)
    assert (record["key_id"], record["tenant"], record["state"]) == (key.id, "default", "valid")
    # whole, also on a narrow terminal
    assert key.id in keys("list").stdout
    assert (tmp_path / "keys" / "api-keys.pepper").stat().st_mode & 0o777 == 0o600


def test_json_of_a_new_key(keys):
    arguments = ("--tenant", "acme", "--collection", "staff", "--expires-in-days", "1", "--json")
    made = json.loads(keys("create", "--name", "x", "--role", "enrol", *arguments).stdout)
    assert ApiKey.parse(made["key"]) is not None
    assert (made["tenant"], made["collections"]) == ("acme", ["staff"])
    assert made["state"].startswith("valid until 20")


def test_limits_of_a_new_key(keys):
    limits = ("--requests-per-minute", "600", "--burst", "60", "--concurrent", "8")
    made = json.loads(keys("create", "--name", "x", "--role", "infer", *limits, "--json").stdout)
    assert made["limits"] == {
        "requests_per_minute": 600,
        "burst": 60,
        "megapixels_per_minute": None,
        "concurrent": 8,
    }
    again = json.loads(keys("rotate", made["key_id"], "--json").stdout)
    assert again["limits"] == made["limits"]
    for wrong, reason in (
        (("--burst", "5"), "requests_per_minute"),
        (("--concurrent", "0"), "concurrent of a key must be 1 to 100,000"),
    ):
        result = keys("create", "--name", "x", "--role", "infer", *wrong, status=1)
        assert reason in result.stderr


def test_limits_of_a_key_are_changed(keys):
    made = json.loads(
        keys("create", "--name", "x", "--role", "infer", "--concurrent", "8", "--json").stdout
    )
    key_id = made["key_id"]
    changed = keys("limit", key_id, "--requests-per-minute", "600", "--reset", "concurrent")
    assert f"key {key_id} has requests_per_minute 600" in changed.stderr
    assert "no limits of its own" in keys("limit", key_id, "--reset", "requests-per-minute").stderr
    for wrong, reason in (
        ((), "name a limit"),
        (("--burst", "5"), "requests_per_minute"),
        (("--concurrent", "5", "--reset", "concurrent"), "both given and reset"),
    ):
        assert reason in keys("limit", key_id, *wrong, status=1).stderr


def test_lists_write_a_line_into_the_audit_log(keys, tmp_path, monkeypatch):
    keys("create", "--name", "x", "--role", "infer", "--tenant", "acme")
    keys("list")
    keys("list", "--tenant", "acme", "--json")
    monkeypatch.setenv("AURUM_AUDIT_READS", "off")
    keys("list")
    with closing(sqlite3.connect(tmp_path / "records.sqlite3")) as connection:
        lines = connection.execute("SELECT tenant, actor, action, counts FROM audit ORDER BY id")
        assert list(lines) == [
            ("acme", "aurum keys", "create_key", "{}"),
            ("", "aurum keys", "list_keys", '{"keys": 1}'),
            ("acme", "aurum keys", "list_keys", '{"keys": 1}'),
        ]


@pytest.mark.parametrize(
    ("expiry", "state"),
    [
        (float("nan"), "expired: what is stored as its expiry is no time"),
        (float("inf"), "valid until 9999-12-31T23:59:59Z"),
    ],
)
def test_a_key_whose_expiry_is_no_time_is_shown(expiry, state):
    record = ApiKeyRecord("id", "acme", "x", ("infer",), None, "p", "d", 1e9, "test", expiry)
    shown = _document(record)
    assert shown["state"] == state
    assert shown["expires_at"][:4] in ("2001", "9999")


def test_rotate_and_revoke(keys):
    old = json.loads(keys("create", "--name", "x", "--role", "infer", "--json").stdout)
    new = json.loads(keys("rotate", old["key_id"], "--overlap-hours", "1", "--json").stdout)
    assert new["replaces"] == old["key_id"]
    assert new["key"] != old["key"]
    assert "was revoked" in keys("revoke", new["key_id"]).stderr
    states = [each["state"] for each in json.loads(keys("list", "--json").stdout)]
    assert states[0].startswith("valid until")
    assert states[1] == "revoked"
    assert "revoked" in keys("list", "--tenant", "default").stdout
    assert json.loads(keys("list", "--tenant", "acme", "--json").stdout) == []


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("create", "--name", "x", "--role", "infer", "--tenant", "../x"), "tenant"),
        (("create", "--name", "x", "--role", "admin", "--collection", "a"), "admin"),
        (("rotate", "none"), "no key"),
        (("revoke", "none"), "no key"),
    ],
)
def test_errors_are_one_line(keys, arguments, why):
    result = keys(*arguments, status=1)
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert why in result.stderr


def test_an_open_gateway_is_said_loudly(keys, monkeypatch):
    monkeypatch.delenv("AURUM_AUTHENTICATION")
    result = keys("create", "--name", "x", "--role", "infer")
    assert "AURUM_AUTHENTICATION is not on" in result.stderr
    assert ApiKey.parse(result.stdout.strip()) is not None


def test_a_new_pepper_leaves_old_keys_their_own(keys, tmp_path):
    first = json.loads(keys("create", "--name", "a", "--role", "infer", "--json").stdout)
    assert "2 peppers" in keys("new-pepper").stderr
    second = json.loads(keys("create", "--name", "b", "--role", "infer", "--json").stdout)
    assert first["pepper"] != second["pepper"]
    with closing(sqlite3.connect(tmp_path / "records.sqlite3")) as connection:
        rows = connection.execute("SELECT count(DISTINCT pepper_id) FROM api_keys").fetchone()
    assert rows == (2,)
