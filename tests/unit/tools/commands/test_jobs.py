"""`aurum jobs webhook-secret`: what it derives, and what it needs."""

import pytest
from typer.testing import CliRunner

from gateway.jobs.webhook_policy import tenant_secret
from tools.commands.jobs import app

SECRET = "sixteen characters"


def test_the_secret_of_a_tenant_is_shown(monkeypatch):
    monkeypatch.setenv("AURUM_WEBHOOK_SECRET", SECRET)
    for arguments, tenant in (([], "default"), (["--tenant", "acme"], "acme")):
        shown = CliRunner().invoke(app, ["webhook-secret", *arguments])
        assert shown.exit_code == 0
        assert shown.output == tenant_secret(SECRET, tenant) + "\n"
        assert SECRET not in shown.output


@pytest.mark.parametrize("hosts", ["", "hooks.example.com"])
def test_without_a_secret_it_says_what_to_set(monkeypatch, hosts):
    monkeypatch.delenv("AURUM_WEBHOOK_SECRET", raising=False)
    monkeypatch.setenv("AURUM_WEBHOOK_HOSTS", hosts)
    shown = CliRunner().invoke(app, ["webhook-secret"])
    assert "AURUM_WEBHOOK_SECRET" in shown.stderr
    assert "Traceback" not in shown.stderr
