"""`aurum deploy` where disk, journal, engine or operator do what nobody hopes for."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import InferenceUnavailableError
from gateway.settings import CHECKOUT
from tests.support.command_line import PYTHONPATH, run_in_process
from tests.support.deploying import Place, deployed
from tests.support.fake_inference import FakeInference
from tests.support.gateway_server import serving
from tests.support.recorded_engine import RecordedEngine
from tests.support.records import add_migrated_sqlite
from tools.deploying import journal, models
from tools.deploying.journal import Event

_ASKS = """\
      AURUM_AUTHENTICATION: "on"
      AURUM_LOG_LEVEL"""


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    inference = FakeInference()
    async with serving(inference) as client:
        yield Place(tmp_path, inference, str(client._base_url))


async def test_a_gateway_that_asks_for_keys_makes_one_for_the_photo(tmp_path: Path) -> None:
    home = tmp_path / "gateway"
    home.mkdir()
    add_migrated_sqlite(home / "records.sqlite3")
    async with serving(FakeInference(), home=home, authentication="on") as client:
        place = Place(tmp_path, FakeInference(), str(client._base_url))
        text = (place.project / "docker-compose.yml").read_text()
        place.write("docker-compose.yml", text.replace("      AURUM_LOG_LEVEL", _ASKS))
        # what `aurum` is within the container
        script = "import sys; from tools.__main__ import app; app(sys.argv[1:])"
        variables = {"PATH": os.environ["PATH"], "PYTHONPATH": PYTHONPATH, "AURUM_HOME": str(home)}
        place.engine.change(
            within=[[sys.executable, "-c", script], {**variables, "AURUM_AUTHENTICATION": "on"}]
        )
        await deployed(place)
        listed = await place.aurum("keys", "list", "--json", home=home)
    [key] = json.loads(listed.stdout)
    assert key["roles"] == ["infer"]
    assert key["revoked_at"]
    asked = [call for call in place.engine.calls() if "exec" in call]
    assert [call[call.index("keys") + 1] for call in asked] == ["create", "revoke"]
    log = place.journal.log_of(1).read_text()
    assert key["key_id"] in log
    assert '"key"' not in log
    assert f"aur_{key['key_id']}_" not in log


async def test_what_failed_before_the_start_leaves_the_models_that_serve(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await deployed(place)
    restored: list[object] = []
    monkeypatch.setattr(models, "restore", lambda *given, **_: restored.append(given))
    place.engine.change(refused="build")
    failed = await place.deploy()
    assert failed.returncode == 1
    assert "nothing that runs was touched" in failed.stdout
    # somebody may have activated another version since
    assert restored == []


async def test_a_disk_that_fills_up_keeps_nothing_from_going_back(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await deployed(place)
    before = place.engine.state["ids"]
    place.write("code", "two")

    def full(self: journal.Journal, number: int, event: Event, **more: Any) -> None:
        if event not in (Event.BEGUN, Event.STARTING):
            # as the kernel says it, while a line is written
            monkeypatch.setattr(os, "fsync", _no_space)
        real(self, number, event, **more)

    real = journal.Journal.append
    with monkeypatch.context() as patch:
        patch.setattr(journal.Journal, "append", full)
        failed = await place.deploy()
    monkeypatch.undo()
    assert failed.returncode == 1
    assert "No space left on device" in failed.stderr
    assert "release 1 runs" in failed.stderr
    assert "the next deployment will go back once more" in failed.stdout
    assert place.engine.state["ids"] == before
    # with room again
    await deployed(place)
    assert place.engine.state["ids"] != before
    assert place.events(2)[-1] is Event.ROLLED_BACK


async def test_a_damaged_journal_is_named_instead_of_guessed_around(place: Place) -> None:
    await deployed(place)
    path = place.journal.folder / "journal.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:-1], "\0\0\0\n"]))
    for words in ((), ("rollback",)):
        refused = await (place.aurum("deploy", *words) if words else place.deploy())
        assert refused.returncode == 1
        assert f"line {len(lines)} of {path} cannot be read" in refused.stderr
    shown = await place.aurum("deploy", "status")
    assert shown.returncode == 1
    assert f"warning: line {len(lines)} of" in shown.stdout
    assert not place.journal.folder_of(2).exists()


async def test_containers_that_nobody_could_bring_back_are_not_replaced(place: Place) -> None:
    place.engine.change(running={"gateway": "trial-gateway"}, project="trial")
    refused = await place.deploy()
    assert refused.returncode == 1
    assert "could not bring them back" in refused.stderr
    assert place.engine.verbs() == []
    place.engine.change(running={})
    await deployed(place)
    # another project in the same home would not be stopped by going back
    other = await place.deploy("--project", "other")
    assert other.returncode == 1
    assert "are of the project trial: give other a home of its own" in other.stderr


async def test_a_rollback_to_nothing_is_refused_without_a_deployment(place: Place) -> None:
    for deployments in (0, 1):
        if deployments:
            await deployed(place)
        refused = await place.aurum("deploy", "rollback", "--url", place.url)
        assert refused.returncode == 1
        assert refused.stderr == "error: there is no earlier release\n"
        assert place.journal.next_number() == deployments + 1
    unknown = await place.aurum("deploy", "rollback", "7")
    assert "holds no release; releases that are kept: 1" in unknown.stderr


async def test_a_rollback_after_a_way_back_that_failed_goes_to_what_should_run(
    place: Place,
) -> None:
    await deployed(place)
    before = place.engine.state["ids"]
    place.write("code", "two")
    place.inference.error = InferenceUnavailableError("no engine")
    assert (await place.deploy("--photo-seconds", "1")).returncode == 2
    assert (await place.aurum("deploy", "status")).returncode == 1
    place.inference.error = None
    back = await place.aurum("deploy", "rollback", "--url", place.url)
    assert back.returncode == 0, back.stderr
    assert place.engine.state["ids"] == before
    assert (await place.aurum("deploy", "status")).returncode == 0


def test_the_production_stack_passes_the_check_as_the_docs_say(tmp_path: Path) -> None:
    """Follow docs/compose.md up to the point where an engine is needed."""
    engine = RecordedEngine.make(tmp_path / "engine")
    secrets = tmp_path / "secrets"
    subprocess.run(
        [CHECKOUT / "deploy" / "compose" / "secrets.sh", secrets],
        env={"PATH": os.environ["PATH"], "SERVER_NAME": "faces.example.com"},
        check=True,
        capture_output=True,
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AURUM_")}
    environment = {
        **clean,
        "PATH": f"{engine.bin}{os.pathsep}{clean['PATH']}",
        "AURUM_HOME": str(tmp_path / "home"),
        "AURUM_GATEWAY_CA_FILE": str(secrets / "edge.pem"),
        "SECRETS": str(secrets),
        "COMPOSE_PROFILES": "cpu",
    }
    order = ["deploy", "--file", str(CHECKOUT / "docker-compose.prod.yml"), "--dry-run"]
    order += ["--env-file", os.devnull, "--free-disk-gib", "0", "--free-memory-gib", "0"]
    url = ["--url", "https://faces.example.com"]
    planned = run_in_process([*order, *url], environment=environment, folder=tmp_path)
    problems = [line for line in planned.stdout.splitlines() if "problem: " in line]
    # the ports of the machine of the tests may be in use
    assert not [line for line in problems if "problem: port " not in line]
    assert "is not accepted" not in planned.stdout

    without = {**environment, "COMPOSE_PROFILES": ""}
    refused = run_in_process(order, environment=without, folder=tmp_path)
    assert "gateway asks triton for inference" in refused.stdout
    assert "edge.pem is not accepted for 127.0.0.1: " in refused.stdout


def _no_space(_: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
