"""A new embedding model goes into service: collections lose nobody, with and without crops."""

import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support import photos
from tests.support.photos import models_folder, portraits_in_the_wild
from tests.support.serving import Served, aurum, aurum_process, make_settings, serving
from tests.support.swapping import write_other_network

_PATIENCE_SECONDS = 60


@pytest.fixture
def served(real_repository: Path, tmp_path: Path):
    repository = tmp_path / "model_repository"
    shutil.copytree(real_repository, repository)
    settings = make_settings(tmp_path, repository, request_timeout_seconds=60.0)
    with serving(settings) as running:
        running.wait_for("Aurum is ready")
        yield running


def ask(served: Served, method: str, path: str, *, status: int, **sent: Any) -> dict[str, Any]:
    answer = requests.request(method, f"{served.url}{path}", timeout=60, **sent)
    assert answer.status_code == status, answer.text
    return answer.json()


def enrol(served: Served, collection: str, subject: str, image: bytes) -> str:
    answer = ask(
        served,
        "POST",
        f"/api/collections/{collection}/faces",
        status=201,
        files={"image": ("x", image)},
        data={"subject": subject, "quality": "off"},
    )
    return answer["space"]


def who(served: Served, collection: str, image: bytes) -> list[str]:
    path = f"/api/collections/{collection}/search"
    found = ask(served, "POST", path, status=200, files={"image": ("x", image)})
    return [match["subject"] for match in found["faces"][0]["matches"]]


def space_in_service(served: Served, image: bytes) -> str:
    answer = ask(served, "POST", "/api/ml/embed", status=200, files={"image": ("x", image)})
    return answer["models"]["space"]


def test_a_new_model_loses_nobody(served: Served, tmp_path: Path) -> None:
    portrait = photos.PORTRAIT.read_bytes()
    stranger, newcomer = (data for _, data in portraits_in_the_wild(every=900, most=2))
    for name, keep in (("kept", "crop"), ("plain", "none")):
        body = {"name": name, "keep": keep}
        ask(served, "POST", "/api/collections", status=201, json=body)
        old = enrol(served, name, "eileen", portrait)
        enrol(served, name, "bert", stranger)
    other = write_other_network(
        models_folder() / "mobilefacenet_arcface_128.onnx", tmp_path / "other.onnx"
    )
    done = aurum_process(served.settings, "models", "import", "--embedding", str(other))
    assert done.returncode == 0, done.stdout + done.stderr
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while (new := space_in_service(served, portrait)) == old:
        assert time.monotonic() < deadline
        time.sleep(0.5)

    # both still live in the old space, through the older version
    for name in ("kept", "plain"):
        assert who(served, name, portrait) == ["eileen"]
        assert enrol(served, name, "newcomer", newcomer) == old
        assert who(served, name, newcomer) == ["newcomer"]
    problem = ask(served, "POST", "/api/collections/plain/migrate", status=409)
    assert "crop" in problem["detail"]

    refused = aurum(served.settings, "models", "remove", "embedding", "1")
    assert refused.returncode == 1
    assert "default/kept, default/plain" in refused.stderr

    moved = aurum(served.settings, "vectors", "migrate", "kept")
    assert moved.returncode == 0, moved.stdout + moved.stderr
    shown = ask(served, "GET", "/api/collections/kept", status=200)
    assert (shown["space"], shown["migration"]["state"]) == (new, "switched")
    assert [who(served, "kept", image) for image in (portrait, stranger, newcomer)] == [
        ["eileen"],
        ["bert"],
        ["newcomer"],
    ]
    back = aurum(served.settings, "vectors", "migrate", "kept", "--action", "rollback")
    assert back.returncode == 0, back.stdout + back.stderr
    assert ask(served, "GET", "/api/collections/kept", status=200)["space"] == old
    assert who(served, "kept", portrait) == ["eileen"]
    for name in ("kept", "plain"):
        ask(served, "DELETE", f"/api/collections/{name}", status=200)
    removed = aurum(served.settings, "models", "remove", "embedding", "1")
    assert removed.returncode == 0, removed.stderr
