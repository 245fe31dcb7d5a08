"""`aurum deploy` with a recorded engine and a gateway: forward, back, killed, stopped, refused."""

import asyncio
import hashlib
import json
import signal
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.errors import InferenceUnavailableError
from tests.support.deploying import Place, deployed
from tests.support.fake_inference import FakeInference
from tests.support.gateway_server import serving
from tests.support.serving import wait_until
from tools.deploying.journal import Event


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    inference = FakeInference()
    async with serving(inference) as client:
        yield Place(tmp_path, inference, str(client._base_url))


async def test_a_release_is_built_started_and_proven(place: Place) -> None:
    done = await deployed(place)
    steps = [line.partition("] ")[2] for line in done.stdout.splitlines() if line.startswith("[")]
    assert steps[0] == "check the environment"
    assert steps[-2:] == ["wait until all parts are healthy", "send a photo"]
    assert "by triton in" in done.stdout
    assert f"Release 1 runs at {place.url}" in done.stdout
    assert (place.project / "state").is_dir()

    assert place.engine.verbs() == ["pull", "build", "tag", "tag", "up"]
    assert place.engine.state["running"] == {
        "gateway": "localhost/trial-release/gateway:1",
        "redis": "localhost/trial-release/redis:1",
    }
    # as the operator wrote it, though the file was resolved twice
    secret = place.engine.state["environment"]["gateway"]["AURUM_WEBHOOK_SECRET"]
    assert secret == "0123456789abcdef$$x"
    assert place.events(1) == [Event.BEGUN, Event.STARTING, Event.PROVEN, Event.DEPLOYED]
    log = (await place.aurum("deploy", "logs")).stdout
    assert "[8/8] send a photo" in log
    assert "$ docker compose" in log
    assert "0123456789abcdef" not in log
    shown = await place.aurum("deploy", "status")
    assert shown.returncode == 0
    assert "gateway: running healthy" in shown.stdout


async def test_files_of_deployments_are_for_their_owner_only(place: Place) -> None:
    await deployed(place)
    assert stat.S_IMODE(place.journal.folder.stat().st_mode) == 0o700
    for name in ("release.json", "compose.json", "deployment.log"):
        path = place.journal.folder_of(1) / name
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, name
    copied = [path.name for path in place.journal.folder_of(1).rglob("*")]
    assert "nginx.conf" in copied
    assert "password" not in copied


@pytest.mark.parametrize("fault", ["health", "photo", "build"])
async def test_what_fails_goes_back_to_images_and_configuration_of_before(
    place: Place, fault: str
) -> None:
    await deployed(place)
    before = place.engine.state
    place.write("code", "two")
    place.write("nginx.conf", "second")
    if fault == "health":
        # known before it is built: the recorded engine derives ids from names and code
        place.engine.change(broken=[_identity("trial-gatewaytwo")])
        reason = "not healthy after 1 s: gateway is running, unhealthy"
    elif fault == "photo":
        reason = "was not answered rightly"
        place.inference.error = InferenceUnavailableError("no engine")
    else:
        place.engine.change(refused="build")
        reason = "failed to solve: the registry does not answer"

    if fault == "photo":
        # the release of before would not answer either
        failing = place.deploy("--photo-seconds", "3")
        failed, _ = await asyncio.gather(failing, _mend_after_rollback_begins(place))
    else:
        failed = await place.deploy()

    assert failed.returncode == 1
    assert reason in failed.stderr
    assert "release 1 runs" in failed.stderr
    after = place.engine.state
    assert after["ids"] == before["ids"]
    assert after["running"] == before["running"]
    assert after["mounted"] == {"/etc/nginx.conf": "first"}
    assert place.journal.current() == 1
    assert place.events(2)[-2:] == [Event.ROLLING_BACK, Event.ROLLED_BACK]
    assert not [name for name in after["images"] if name.endswith(":2")]
    log = (await place.aurum("deploy", "logs", "2")).stdout
    assert reason in log
    assert ("a line of the container" in log) is (fault != "build")


async def test_the_first_release_that_fails_is_stopped(place: Place) -> None:
    place.inference.error = InferenceUnavailableError("no engine")
    failed = await place.deploy("--photo-seconds", "1")
    assert failed.returncode == 1
    assert "nothing runs" in failed.stderr
    assert place.engine.state["running"] == {}
    assert place.engine.verbs()[-3:] == ["down", "rmi", "rmi"]
    assert (await place.aurum("deploy", "status")).returncode == 1


async def test_a_way_back_that_fails_is_another_exit_status(place: Place) -> None:
    await deployed(place)
    place.inference.error = InferenceUnavailableError("no engine")
    failed = await place.deploy("--photo-seconds", "1")
    assert failed.returncode == 2
    assert "going back to release 1 failed, too" in failed.stderr
    assert place.events(2)[-1] is Event.FAILED


async def test_an_earlier_release_comes_back_by_number(place: Place) -> None:
    await deployed(place)
    first = place.engine.state
    place.write("code", "two")
    place.write("nginx.conf", "second")
    await deployed(place)
    assert place.engine.state["ids"] != first["ids"]
    assert place.engine.state["mounted"] == {"/etc/nginx.conf": "second"}

    back = await place.aurum("deploy", "rollback", "--url", place.url)
    assert back.returncode == 0, back.stderr
    assert place.engine.state["ids"] == first["ids"]
    assert place.engine.state["mounted"] == {"/etc/nginx.conf": "first"}
    assert place.journal.current() == 1
    again = await place.aurum("deploy", "rollback", "1", "--url", place.url)
    assert again.returncode == 1
    assert "release 1 runs already" in again.stderr
    forward = await place.aurum("deploy", "rollback", "2", "--url", place.url)
    assert forward.returncode == 0, forward.stderr
    assert place.engine.state["mounted"] == {"/etc/nginx.conf": "second"}


async def test_a_name_that_an_image_lost_is_given_back(place: Place) -> None:
    await deployed(place)
    first = place.engine.state["ids"]
    place.write("code", "two")
    await deployed(place)
    images = place.engine.state["images"]
    lost = images.pop("localhost/trial-release/gateway:1")
    place.engine.change(images={**images, "elsewhere": lost})
    assert (await place.aurum("deploy", "rollback", "--url", place.url)).returncode == 0
    assert place.engine.state["ids"] == first
    # gone altogether: refused before anything is changed
    images = {name: image for name, image in images.items() if not name.endswith("gateway:2")}
    gone = place.journal.folder_of(2) / "release.json"
    wanted = json.loads(gone.read_text())["images"]["gateway"]["id"]
    place.engine.change(images={n: i for n, i in images.items() if i != wanted} | {"x": lost})
    refused = await place.aurum("deploy", "rollback", "2", "--url", place.url)
    assert refused.returncode == 1
    assert "was removed" in refused.stderr
    assert place.engine.state["ids"] == first


async def test_a_signal_rolls_back_and_ends_the_engines_call(place: Place) -> None:
    await deployed(place)
    before = place.engine.state["ids"]
    place.write("code", "two")
    process = await place.start()
    (place.engine.folder / "hang").rename(place.engine.folder / "was-hanging")
    (place.engine.folder / "hang").touch()
    (place.engine.folder / "hanging").rename(place.engine.folder / "pid")
    process.send_signal(signal.SIGINT)
    # the way back calls `up` as well, and may not be stopped by a second signal
    hanging = place.engine.folder / "hanging"
    assert await asyncio.to_thread(wait_until, lambda: hanging.exists())
    process.send_signal(signal.SIGTERM)
    (place.engine.folder / "hang").unlink()
    said, errors = await process.communicate()
    assert process.returncode == 1, errors
    assert "stopped by SIGINT" in errors.decode()
    assert "wait until that is done" in said.decode()
    assert place.engine.state["ids"] == before
    assert place.events(2)[-1] is Event.ROLLED_BACK


async def test_two_at_once_are_refused_and_one_that_was_killed_is_undone(place: Place) -> None:
    await deployed(place)
    before = place.engine.state["ids"]
    place.write("code", "two")
    process = await place.start()
    second = await place.deploy()
    assert second.returncode == 1
    assert f"process {process.pid} deploys now" in second.stderr
    assert place.events(3) == []

    process.kill()
    await process.wait()
    # the engine's call ends with it
    assert await asyncio.to_thread(wait_until, lambda: not place.engine_is_at_work())
    (place.engine.folder / "hang").unlink()
    assert place.events(2) == [Event.BEGUN, Event.STARTING]
    place.engine.change(refused="build")
    third = await place.deploy()
    assert third.returncode == 1
    assert "deployment 2 was killed while it was starting" in third.stdout
    assert place.events(2)[-1] is Event.ROLLED_BACK
    assert place.engine.state["ids"] == before


async def test_one_that_was_killed_after_its_proof_is_finished(place: Place) -> None:
    await deployed(place)
    place.write("code", "two")
    await deployed(place)
    path = place.journal.folder / "journal.jsonl"
    *lines, last = path.read_text().splitlines()
    assert json.loads(last)["event"] == "deployed"
    # torn in the middle of a line, as a crash may leave it
    path.write_text("\n".join([*lines, last[:20]]))
    assert place.journal.current() == 1
    place.engine.change(refused="build")
    third = await place.deploy()
    assert "release 2 had been proven and stays" in third.stdout
    assert "release 2 runs" in third.stderr
    assert place.journal.current() == 2


async def test_a_dry_run_changes_nothing(place: Place) -> None:
    done = await place.deploy("--dry-run")
    assert done.returncode == 0, done.stderr
    for words in ("pull --ignore-buildable", "build", "up --detach"):
        assert f"{words}" in done.stdout
    assert "would create" in done.stdout
    assert "would stop what was started" in done.stdout
    assert place.engine.verbs() == []
    assert not place.journal.folder.exists()
    assert not (place.project / "state").exists()


async def test_everything_that_is_wrong_is_said_at_once(place: Place) -> None:
    place.write("password", "")
    (place.project / "nginx.conf").unlink()
    place.write(".env", "AURUM_LOG_LEVEL=loud\nAURUM_PROT=8080\n")
    failed = await place.deploy("--free-disk-gib", "1000000")
    assert failed.returncode == 1
    said = [line for line in failed.stdout.splitlines() if "problem: " in line]
    for words in (
        "are free on the disk of",
        "password is empty",
        "nginx.conf, which gateway reads, is missing",
        "settings of gateway: AURUM_LOG_LEVEL",
        "AURUM_PROT is neither a setting nor used by a file",
    ):
        assert any(words in line for line in said), (words, said)
    assert place.engine.verbs() == []


def _identity(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


async def _mend_after_rollback_begins(place: Place) -> None:
    """Let the engine answer again once the deployment has given up."""

    def begins() -> bool:
        return Event.ROLLING_BACK in place.events(2)

    assert await asyncio.to_thread(wait_until, begins, timeout_seconds=60)
    place.inference.error = None
