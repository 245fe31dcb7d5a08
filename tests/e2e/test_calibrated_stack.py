"""A running stack is calibrated on labelled photos, and says how its faces and models do."""

import csv
import itertools
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import requests
from PIL import Image, ImageEnhance

from gateway.registry.calibration import CALIBRATION_FILE, read_calibration
from tests.support import photos
from tests.support.serving import Served, aurum, make_settings, serving, wait_until, what_is_left

PEOPLE = 50
"""Each with each other: 1,225 pairs of different people, enough for an FMR of 0.001."""


@pytest.fixture(scope="module")
def served(real_repository, tmp_path_factory):
    """A stack of our own: its repository is written to."""
    folder = tmp_path_factory.mktemp("calibrated")
    repository = folder / "model_repository"
    shutil.copytree(real_repository, repository)
    settings = make_settings(
        folder,
        repository,
        request_timeout_seconds=60.0,
        cache="off",
        portrait_interval_seconds=1.0,
        drift_min_faces=100,
    )
    with serving(settings) as running:
        running.wait_for("Aurum is ready")
        yield running
    assert what_is_left(settings) == []


@dataclass
class Labelled:
    """Photos, and the CSV that says which show one person."""

    csv: Path
    first: list[Path]
    second: list[Path]


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> Labelled:
    """People of MEBeauty, each twice: as photographed, and mirrored, dull and small."""
    folder = tmp_path_factory.mktemp("pairs")
    first, second = [], []
    for number, (_, data) in enumerate(photos.portraits_in_the_wild(every=50, most=PEOPLE)):
        for kind, paths in (("a", first), ("b", second)):
            paths.append(folder / f"{number}{kind}.jpg")
        first[-1].write_bytes(data)
        image = Image.open(first[-1]).convert("RGB").transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        small = image.resize((image.width * 2 // 3, image.height * 2 // 3))
        ImageEnhance.Brightness(small).enhance(0.7).save(second[-1], quality=60)
    path = folder / "pairs.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("image_a", "image_b", "same"))
        writer.writerows((a.name, b.name, 1) for a, b in zip(first, second, strict=True))
        writer.writerows((a.name, b.name, 0) for a, b in itertools.combinations(first, 2))
    return Labelled(path, first, second)


@pytest.fixture(scope="module")
def calibrated(served, labelled) -> Served:
    """The stack, after `aurum models calibrate`."""
    done = aurum(served.settings, "models", "calibrate", str(labelled.csv), "--picture", "det.png")
    assert done.returncode == 0, done.stderr
    assert "1225 of different people" in done.stdout
    assert re.search(r"0\.001 +│ +-?0\.\d{4}", done.stdout), done.stdout
    assert cv2.imread(str(served.home.parent / "det.png")).shape == (640, 640, 3)
    # the gateway reads calibrations every ten seconds; Triton may load the version once more
    assert wait_until(lambda: calibration_of(served) is not None)
    return served


def ask(served: Served, method: str, path: str, *, status: int = 200, **sent) -> dict:
    answer = requests.request(method, f"{served.url}{path}", timeout=60, **sent)
    assert answer.status_code == status, answer.text
    return answer.json()


def embedding_version(served: Served) -> dict:
    stages = {each["name"]: each for each in ask(served, "GET", "/api/ml/models")["stages"]}
    stage = stages["face_embedding"]
    return next(each for each in stage["versions"] if each["version"] == stage["serving"])


def calibration_of(served: Served) -> dict | None:
    return embedding_version(served)["calibration"]


def embed(served: Served, photo: Path) -> np.ndarray | None:
    data = {"image": (photo.name, photo.read_bytes())}
    faces = ask(served, "POST", "/api/ml/embed?max_faces=1", files=data)["faces"]
    return np.array(faces[0]["embedding"], np.float32) if faces else None


def verify(served: Served, a: Path, b: Path, *, status: int = 200, **options) -> dict:
    files = {"image_a": ("a", a.read_bytes()), "image_b": ("b", b.read_bytes())}
    return ask(served, "POST", "/api/ml/verify", status=status, files=files, params=options)


def metrics(served: Served) -> str:
    return requests.get(f"{served.url}/metrics", timeout=60).text


def test_the_rates_are_those_of_the_pairs(calibrated, labelled):
    (path,) = calibrated.repository.glob(f"face_embedding/*/{CALIBRATION_FILE}")
    kept = read_calibration(path.parent)
    assert kept is not None
    shown = calibration_of(calibrated)
    assert shown["same_pairs"] + kept.without_face >= PEOPLE
    assert (kept.space, kept.different_pairs) == (embedding_version(calibrated)["space"], 1225)
    firsts = np.stack([embed(calibrated, photo) for photo in labelled.first])
    seconds = [embed(calibrated, photo) for photo in labelled.second]
    similar = firsts @ firsts.T
    different = similar[np.triu_indices(PEOPLE, 1)]
    same = [float(a @ b) for a, b in zip(firsts, seconds, strict=True) if b is not None]
    assert len(same) == kept.same_pairs
    for rate in shown["rates"]:
        assert rate["fmr"] == pytest.approx(np.mean(different >= rate["threshold"]), abs=0.002)
        assert rate["fnmr"] == pytest.approx(np.mean(np.array(same) < rate["threshold"]), abs=0.05)
    assert {round(rate["fmr"], 4) for rate in shown["rates"]} >= {0.0008}
    assert shown["threshold"] == max(rate["threshold"] for rate in shown["rates"])


def test_verify_takes_the_threshold_of_a_target(calibrated, labelled):
    shown = calibration_of(calibrated)
    a, b = labelled.first[0], labelled.second[0]
    usual = verify(calibrated, a, b)
    assert usual["threshold"] == pytest.approx(shown["threshold"])
    lax = verify(calibrated, a, b, target_fmr=0.1)
    assert lax["threshold"] < usual["threshold"]
    assert lax["match"] is (lax["similarity"] >= lax["threshold"])
    refused = verify(calibrated, a, b, target_fmr=1e-6, status=400)
    assert "1225 pairs of different people give rates from 0.00082" in refused["detail"]


def test_search_takes_the_threshold_of_a_target(calibrated, labelled):
    name = {"name": "people"}
    ask(calibrated, "POST", "/api/collections", status=201, json=name)
    for number in range(8):
        data = {"subject": f"s{number}", "quality": "off"}
        files = {"image": ("x", labelled.first[number].read_bytes())}
        ask(calibrated, "POST", "/api/collections/people/faces", status=201, files=files, data=data)
    kept = next(
        found
        for path in calibrated.repository.glob(f"face_embedding/*/{CALIBRATION_FILE}")
        if (found := read_calibration(path.parent))
    )
    vectors = np.stack([embed(calibrated, photo) for photo in labelled.first[:8]])
    probe = embed(calibrated, labelled.second[0])
    similarities = vectors @ probe
    for target in (0.5, 0.1, 0.001):
        found = ask(
            calibrated,
            "POST",
            "/api/collections/people/search",
            files={"image": ("x", labelled.second[0].read_bytes())},
            data={"target_fmr": str(target), "limit": "8"},
        )
        threshold = kept.threshold_at(target)
        assert found["threshold"] == pytest.approx(threshold)
        expected = {f"s{row}" for row in range(8) if similarities[row] >= threshold}
        assert {match["subject"] for match in found["faces"][0]["matches"]} == expected
    assert "s0" in expected, "the right one is found at an FMR of 0.001"
    problem = ask(
        calibrated,
        "POST",
        "/api/collections/people/search",
        status=400,
        files={"image": ("x", labelled.second[0].read_bytes())},
        data={"target_fmr": "0.0000001"},
    )
    assert "give rates from" in problem["detail"]


def test_readiness_tells_versions_and_states(served):
    parts = ask(served, "GET", "/api/health/ready")["parts"]
    for stage in ask(served, "GET", "/api/ml/models")["stages"]:
        part = parts[stage["name"]]
        assert (part["status"], part["version"]) == ("ready", stage["serving"])
        states = {each["version"]: each["state"] for each in part["versions"]}
        assert states[part["version"]] == "READY"
        assert states == {each["version"]: each["state"] for each in stage["versions"]}
    assert (parts["vectors"]["status"], parts["records"]["status"]) == ("ready", "ready")


def test_the_portrait_is_sent_through_the_stack(served):
    golden = 'aurum_portrait_golden{stage="face_scoring"} 1.0'
    assert wait_until(lambda: golden in metrics(served)), metrics(served)
    part = ask(served, "GET", "/api/health/ready")["parts"]["portrait"]
    assert (part["status"], part["detail"].partition(",")[0]) == ("ready", "answers as ever")


def test_photos_of_another_kind_drift_from_the_reference(calibrated):
    """Portraits alone are larger than the reference's mix, but faces of no other kind."""

    def value(name: str, measure: str, *, stage: str = "face_detection") -> float:
        path = calibrated.repository / stage / "1" / "reference.json"
        identifier = json.loads(path.read_text())["id"]
        line = f'aurum_drift_{name}{{id="{identifier}",measure="{measure}",stage="{stage}"}}'
        return next(
            float(each.rpartition(" ")[2])
            for each in metrics(calibrated).splitlines()
            if each.startswith(line)
        )

    assert value("faces", "size") >= 2 * PEOPLE - 10
    assert value("psi", "size") > 0.25
    assert value("psi", "cosine_to_mean", stage="face_embedding") < 0.25
    assert "aurum_drift_psi_alert 0.25" in metrics(calibrated)
    log = (calibrated.home / "logs" / "gateway.log").read_text()
    assert '"measure": "size"' in log or '"measure":"size"' in log
