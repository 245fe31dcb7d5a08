"""A version on trial on the whole stack, under load: who answers, what is said, how it ends."""

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from gateway.rollout.plan import Plan, in_share
from tests.support.photos import models_folder
from tests.support.serving import Served, aurum, wait_until
from tests.support.swapping import spoil_with_nan, write_other_network
from tests.support.trial_traffic import (
    Seen,
    dark_portrait,
    trial_traffic,
    write_breaking_network,
)
from tools.registry import candidates
from tools.registry.version_store import VersionStore

SOURCE = "mobilefacenet_arcface_128.onnx"


@pytest.fixture(scope="module")
def tried(changed: Served, tmp_path_factory: pytest.TempPathFactory) -> Served:
    """The stack, with what the tests try kept beside what it serves."""
    folder = tmp_path_factory.mktemp("canary")
    other = write_other_network(models_folder() / SOURCE, folder / "other.onnx")
    breaking = write_breaking_network(models_folder() / SOURCE, folder / "breaking.onnx")
    run(changed, "import", "--keep", "--embedding", other, "--version", 2)
    run(changed, "import", "--keep", "--embedding", breaking, "--version", 3)
    detector = models_folder() / "scrfd_2.5g_bnkps.onnx"
    run(changed, "import", "--keep", "--detection", detector, "--version", 2)
    return changed


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reasons stand on one line."""
    monkeypatch.setenv("COLUMNS", "400")


@pytest.fixture(autouse=True)
def over_at_the_end(tried: Served) -> Iterator[None]:
    """The gateway, too, has seen the end of a test's trial before the next test begins."""
    yield
    assert models(tried) == set()
    assert wait_until(lambda: trial(tried) is None)


def run(served: Served, *arguments: object) -> str:
    """Run `aurum models …`, which must succeed."""
    done = aurum(served.settings, "models", *map(str, arguments))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def refused(served: Served, *arguments: object) -> str:
    done = aurum(served.settings, "models", *map(str, arguments))
    assert done.returncode == 1, done.stdout
    return done.stderr


def trial(served: Served) -> dict | None:
    answer = requests.get(f"{served.url}/api/ml/models/candidate", timeout=30)
    return answer.json()["trial"]


def models(served: Served) -> set[str]:
    return {path.name for path in served.repository.glob("*_candidate")}


def samples(served: Served, name: str) -> dict[str, float]:
    lines = requests.get(f"{served.url}/metrics", timeout=30).text.splitlines()
    found = [line.rsplit(" ", 1) for line in lines if line.startswith(name)]
    return {labels: float(value) for labels, value in found}


def follows(seen: Seen, plan: Plan, *, since: float, answers: int) -> int:
    """Hold every answer against the plan; how many the candidate gave."""
    found = seen.since(since, answers=answers)
    for each in found:
        expected = str(plan.version) if in_share(plan, each.request_id) else "1"
        assert each.version == expected, each
    return sum(each.version == str(plan.version) for each in found)


def test_a_canary_answers_its_share_and_is_promoted(tried):
    with trial_traffic(tried, "embedding") as seen:
        seen.wait_for("1")
        said = run(tried, "activate", "embedding", "2", "--canary", "50%")
        assert "face_embedding 2 answers 50% of requests after" in said
        assert models(tried) == {
            *("face_embedding_candidate", "face_pipeline_candidate"),
            "face_pipeline_unscored_candidate",
        }
        found = trial(tried)
        plan = Plan(**{key: found[key] for key in Plan.model_fields})
        by_candidate = follows(seen, plan, since=time.monotonic(), answers=200)
        assert 70 < by_candidate < 130, by_candidate
        said = run(tried, "status")
        assert "face_embedding 2 is tried since" in said
        assert "compared on" in said
        found = trial(tried)
        assert found["candidate"]["answered"] >= by_candidate
        assert (found["active"]["version"], found["candidate"]["version"]) == ("1", "2")
        assert found["candidate"]["errors"] == found["active"]["errors"] == {}
        assert found["compared"]["images"] > 0
        assert found["compared"]["only_active"] == found["compared"]["only_candidate"] == 0
        # of another space: nothing to compare embeddings by, and the head does not rate it
        assert found["compared"]["cosine_mean"] is None
        assert found["rates"] is False
        counts = samples(tried, "aurum_trial_seconds_count")
        assert any('role="candidate"' in each and 'version="2"' in each for each in counts), counts
        assert any('role="active"' in each and 'version="1"' in each for each in counts), counts

        # while it is tried, the stage stays as it is
        assert "is being tried" in refused(tried, "rollback", "embedding")
        assert "is being tried" in refused(tried, "remove", "embedding", 2)

        said = run(tried, "activate", "embedding", "--canary", "10%")
        plan = plan.model_copy(update={"share": 0.1})
        assert follows(seen, plan, since=time.monotonic(), answers=60) < 20

        said = run(tried, "promote")
        assert "face_embedding: 1 -> 2" in said
        seen.wait_for("2")
        assert models(tried) == set()
        assert wait_until(lambda: trial(tried) is None)
        run(tried, "rollback", "embedding")
        seen.wait_for("1")
    assert seen.wrong == []
    print(f"{len(seen.answers)} answers, 0 failed or wrong")


def test_scores_are_not_asked_of_what_does_not_rate(tried):
    run(tried, "activate", "embedding", "2", "--canary", "100%")
    photo = Path("tools/golden/eileen_collins.png").read_bytes()
    score, embed = (
        requests.post(f"{tried.url}/api/ml/{route}", files={"image": photo}, timeout=60).json()
        for route in ("score", "embed")
    )
    assert (score["models"]["embedding"], embed["models"]["embedding"]) == ("1", "2")
    assert score["faces"][0]["score"] is not None
    pair = {"image_a": photo, "image_b": photo}
    verified = requests.post(f"{tried.url}/api/ml/verify", files=pair, timeout=60).json()
    assert verified["models"]["embedding"] == "2"
    assert verified["similarity"] > 0.999
    run(tried, "abort")


def test_the_shadow_answers_nobody_and_is_compared(tried):
    with trial_traffic(tried, "detection") as seen:
        seen.wait_for("1")
        said = run(tried, "activate", "detection", "--shadow")
        assert "face_detection 2 runs in the shadow after" in said
        assert wait_until(lambda: trial(tried)["compared"]["images"] > 2, timeout_seconds=120)
        found = trial(tried)
        assert found["candidate"]["answered"] >= found["compared"]["images"]
        assert found["candidate"]["p50_ms"] > 0
        # another detector in front of the same embedding: boxes and crops differ a little
        assert 0.5 < found["compared"]["box_iou"] < 1
        assert 0 < found["compared"]["cosine_mean"] < 1
        said = run(tried, "status")
        assert "cosine 0." in said
        assert "boxes overlap by 0." in said
        assert sum(samples(tried, "aurum_trial_cosine_count").values()) > 2

        assert "is being tried" in refused(tried, "activate", "detection", 2)
        run(tried, "abort")
        assert models(tried) == set()
        assert {each.version for each in seen.since(time.monotonic(), answers=20)} == {"1"}
    assert {each.version for each in seen.answers} == {"1"}
    assert seen.wrong == []


def test_a_trial_outlives_the_gateway(tried):
    # it is Triton that knows of it
    run(tried, "activate", "detection", "--canary", "100%")
    before = trial(tried)
    os.kill(tried.part_pid("gateway"), signal.SIGKILL)
    tried.wait_for("gateway is ready again")
    assert wait_until(lambda: trial(tried) is not None)
    assert trial(tried)["trial"] == before["trial"]
    with trial_traffic(tried, "detection") as seen:
        seen.wait_for("2")
        run(tried, "abort")
        seen.wait_for("1")
    assert seen.wrong == []


def test_a_version_that_breaks_on_some_photos_is_aborted_by_itself(tried):
    photo = dark_portrait()
    with (
        trial_traffic(tried, "embedding", photo=photo) as dark,
        trial_traffic(tried, "embedding") as seen,
    ):
        dark.wait_for("1")
        # it passes the golden set: nothing in it is so dark
        run(tried, "activate", "embedding", "3", "--canary", "30%")
        tried.wait_for("face_embedding 3 is not tried any more: ")
        assert wait_until(lambda: trial(tried) is None)
        seen.wait_for("1")
    assert dark.wrong == []
    assert seen.wrong == []
    assert {each.version for each in dark.answers} == {"1"}
    assert models(tried) == set()
    reason = "not finite"
    assert reason in run(tried, "status")
    stages = requests.get(f"{tried.url}/api/ml/models", timeout=30).json()["stages"]
    embedding = next(stage for stage in stages if stage["name"] == "face_embedding")
    version = next(each for each in embedding["versions"] if each["version"] == "3")
    assert version["state"] == "UNAVAILABLE"
    assert reason in version["reason"]
    entry = json.loads((tried.home / "models" / "journal.jsonl").read_text().splitlines()[-1])
    assert (entry["action"], entry["phase"]) == ("abort", "done")
    assert reason in entry["reason"]


def test_what_does_not_pass_the_golden_set_is_not_tried(tried, tmp_path):
    kept = tried.home / "models" / "kept" / "face_embedding"
    shutil.copytree(kept / "2", kept / "4")
    (kept / "4" / "model.json").unlink()
    spoil_with_nan(kept / "4" / "model.onnx")
    assert "not finite" in refused(tried, "activate", "embedding", 4, "--canary", "10%")
    assert models(tried) == set()
    run(tried, "remove", "embedding", 4)


def test_a_candidate_that_triton_refuses_is_aborted_by_itself(tried):
    version_store = VersionStore(tried.repository, tried.home)
    shutil.copytree(
        version_store.kept("face_embedding", 2), version_store.kept("face_embedding", 5)
    )
    (version_store.kept("face_embedding", 5) / "model.onnx").write_bytes(b"garbage")
    with trial_traffic(tried, "embedding") as seen:
        # past every check of ours, as one that only this Triton cannot load
        terms = candidates.Terms("canary", 0.5)
        candidates.begin(version_store, "face_embedding", 5, terms, check=lambda *_: None)
        line = tried.wait_for("face_embedding 5 is not tried any more: ", timeout_seconds=60)
        seen.wait_for("1")
    assert "INVALID_PROTOBUF" in line
    assert seen.wrong == []
    assert {each.version for each in seen.answers} == {"1"}
    assert models(tried) == set()
    run(tried, "remove", "embedding", 5)


def test_a_triton_that_dies_ends_the_trial(tried):
    run(tried, "activate", "detection", "--shadow")
    os.kill(tried.pid, signal.SIGKILL)
    tried.wait_for("face_detection 2 is not tried any more: Triton ended during its trial")
    tried.wait_for("triton is ready again")
    assert models(tried) == set()
    assert wait_until(lambda: trial(tried) is None)


def test_callers_are_answered_by_the_version_in_service_beside_a_shadow(tried):
    photo = Path("tools/golden/eileen_collins.png").read_bytes()
    run(tried, "activate", "detection", "--shadow")
    with requests.Session() as session:
        for _ in range(40):
            answer = session.post(
                f"{tried.url}/api/ml/detect", files={"image": photo}, timeout=60
            ).json()
            assert answer["models"]["detection"] == "1"
            time.sleep(0.05)
    assert wait_until(lambda: trial(tried)["candidate"]["answered"] > 0)
    run(tried, "abort")
    assert wait_until(lambda: trial(tried) is None)
