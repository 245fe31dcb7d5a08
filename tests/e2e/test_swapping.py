"""Models come and go under load on the whole stack: no answer fails, none is of another network."""

import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest
import requests

from tests.support.photos import models_folder
from tests.support.serving import Served, aurum
from tests.support.swapping import Traffic, spoil_with_nan, traffic, write_other_network
from tests.support.weights import write_linear_head
from tools.importing.importer import Order, import_weights
from tools.registry import repository as versions

STAGE = "face_embedding"


@pytest.fixture(scope="module")
def swapped(changed_cached: Served) -> Served:
    """The stack whose versions the tests change."""
    return changed_cached


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another network of the same width."""
    source = models_folder() / "mobilefacenet_arcface_128.onnx"
    return write_other_network(source, tmp_path_factory.mktemp("other") / "other.onnx")


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of 512 dimensions."""
    source = models_folder() / "mobilefacenet_arcface_128.onnx"
    target = tmp_path_factory.mktemp("wide") / "wide.onnx"
    return write_other_network(source, target, dimension=512)


@pytest.fixture
def load(swapped: Served):
    """Run constant traffic, all of which must have been answered rightly."""
    with traffic(swapped) as seen:
        seen.wait_for(space_in_service(swapped))
        yield seen
    assert seen.wrong == []
    print(f"{sum(seen.answers.values())} answers, 0 failed or wrong: {dict(seen.answers)}")


def space_in_service(served: Served) -> str:
    return versions.newest_metadata(served.repository / STAGE).id


def run(served: Served, *arguments: object) -> str:
    """Run `aurum models …`, which must succeed."""
    done = aurum(served.settings, "models", *map(str, arguments))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def made_elsewhere(served: Served, source: Path, scratch: Path) -> Path:
    """Prepare a version folder outside the repository."""
    bench = scratch / "bench"
    shutil.copytree(
        served.repository / STAGE, bench / STAGE, ignore=shutil.ignore_patterns("[0-9]*")
    )
    import_weights(Order(embedding=source), bench)
    return bench / STAGE / "1"


def drop(served: Served, folder: Path, version: int) -> Path:
    """Rename a folder into place, as a person would by hand."""
    return folder.rename(served.repository / STAGE / str(version))


def reason_in_api(served: Served, version: int) -> tuple[str, str]:
    stages = requests.get(f"{served.url}/api/ml/models", timeout=30).json()["stages"]
    embedding = next(stage for stage in stages if stage["name"] == STAGE)
    entry = next(v for v in embedding["versions"] if v["version"] == str(version))
    return entry["state"], entry["reason"]


def test_import_and_rollback_and_activate(swapped, load: Traffic, other):
    first = space_in_service(swapped)
    head = write_linear_head(other.with_name("head.onnx"), width=128)
    started = time.monotonic()
    said = run(swapped, "import", "--embedding", other, "--scoring", head)
    assert "face_embedding 2 answers after" in said
    second = space_in_service(swapped)
    assert second != first
    load.wait_for(second)
    print(f"import: {load.first_at[second] - started:.1f} s from command to the first answer")
    assert load.only(second, seconds=1)
    run(swapped, "rollback", "embedding", "scoring")
    load.wait_for(first)
    assert load.only(first, seconds=1)
    run(swapped, "activate", "embedding")
    load.wait_for(second)
    assert load.versions == {first: {"1"}, second: {"2"}}
    run(swapped, "rollback", "embedding")
    load.wait_for(first)


def test_a_folder_dropped_by_hand_and_of_another_dimension(swapped, load: Traffic, wide, tmp_path):
    first = space_in_service(swapped)
    target = drop(swapped, made_elsewhere(swapped, wide, tmp_path), 5)
    dropped = time.monotonic()
    space = space_in_service(swapped)
    load.wait_for(space)
    print(f"hand drop: {load.first_at[space] - dropped:.1f} s until the new version answered")
    assert load.embeddings[space].shape == (512,)
    assert load.versions[space] == {"5"}
    score = requests.post(
        f"{swapped.url}/api/ml/score",
        files={"image": ("x", Path("tools/golden/eileen_collins.png").read_bytes())},
        timeout=60,
    ).json()
    assert score["faces"][0]["score"] is None, "a head rated embeddings of a foreign space"
    target.rename(tmp_path / "taken away")
    load.wait_for(first)
    assert load.only(first, seconds=1)


BROKEN = {
    "garbage": "INVALID_PROTOBUF",
    "wrong network": "CROPS is not in the graph",
    "nan": "not finite",
    "empty": "NO_SUCHFILE",
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_version_takes_no_traffic_and_says_why(
    swapped, load: Traffic, other, tmp_path, broken
):
    number, expected = 11 + list(BROKEN).index(broken), BROKEN[broken]
    first = space_in_service(swapped)
    folder = made_elsewhere(swapped, other, tmp_path)
    network = folder / "model.onnx"
    if broken == "nan":
        spoil_with_nan(network)
    elif broken == "empty":
        network.unlink()
    elif broken == "garbage":
        network.write_bytes(b"garbage")
    else:
        shutil.copy(swapped.repository / "face_scoring" / "1" / "model.onnx", network)
    target = drop(swapped, folder, number)
    deadline = time.monotonic() + 60
    while expected not in (status := reason_in_api_or_nothing(swapped, number))[1]:
        assert time.monotonic() < deadline, status
        time.sleep(0.3)
    assert status[0] == "UNAVAILABLE"
    # by now the supervisor may have lost its patience with it
    assert re.search("refused|kept", run(swapped, "status"))
    assert load.only(first, seconds=1)
    swapped.wait_for(f"{STAGE} {number} is taken out, 1 serves: ")
    assert not target.exists()
    state, reason = reason_in_api(swapped, number)
    assert (state, reason[:11]) == ("UNAVAILABLE", "taken out: ")
    assert "kept" in run(swapped, "status")
    run(swapped, "remove", "embedding", number)
    assert load.only(first, seconds=1)


def reason_in_api_or_nothing(served: Served, version: int) -> tuple[str, str]:
    try:
        return reason_in_api(served, version)
    except StopIteration:
        return "", ""


def test_a_restart_passes_over_a_broken_version(swapped, tmp_path, other):
    folder = made_elsewhere(swapped, other, tmp_path)
    spoil_with_nan(folder / "model.onnx")
    drop(swapped, folder, 20)
    os.kill(swapped.pid, signal.SIGKILL)
    swapped.wait_for("face_embedding 20 is taken out")
    swapped.wait_for("triton is ready again")
    journal = (swapped.home / "models" / "journal.jsonl").read_text().splitlines()
    assert json.loads(journal[-1])["action"] == "withdraw"
