"""`aurum deploy` before a real Triton: models that answer wrongly are taken back.

The engine is recorded; the photo, the models and the way back are real.
"""

import os
import stat
from pathlib import Path

import pytest
import requests

from tests.support import photos
from tests.support.recorded_engine import RecordedEngine
from tests.support.serving import Served, aurum
from tools.deploying.journal import Event, Journal
from tools.registry.version_store import STAGE_NAMES, VersionStore

_COMPOSE = """\
name: models
services:
  gateway:
    image: aurum-gateway:1
    environment:
      AURUM_MODEL_REPOSITORY: /models
    volumes: ["{repository}:/models:ro"]
"""


def score(served: Served) -> tuple[dict[str, str], str, float | None]:
    """Versions, engine and score of the portrait."""
    files = {"image": photos.PORTRAIT.read_bytes()}
    answer = requests.post(f"{served.url}/api/ml/score", files=files, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()["models"], answer.json()["engine"], answer.json()["faces"][0]["score"]


def test_models_that_fit_no_head_are_taken_back(
    changed: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = RecordedEngine.make(tmp_path / "engine")
    monkeypatch.setenv("PATH", f"{engine.bin}{os.pathsep}{os.environ['PATH']}")
    file = tmp_path / "docker-compose.yml"
    file.write_text(_COMPOSE.format(repository=changed.repository))
    order = ["deploy", "--file", str(file), "--url", changed.url]
    order += ["--free-disk-gib", "0", "--free-memory-gib", "0"]

    good = aurum(changed.settings, *order)
    assert good.returncode == 0, good.stdout + good.stderr
    assert "face_scoring 1 in" in good.stdout
    before = score(changed)
    assert before[2] is not None

    # each network works, and the embedding is of another space than the head's: no scores
    imported = aurum(changed.settings, "models", "import", "--fp16")
    assert imported.returncode == 0, imported.stderr
    assert score(changed)[2] is None

    failed = aurum(changed.settings, *order, "--photo-seconds", "3")
    assert failed.returncode == 1
    assert "a face has no score: the scoring head does not fit the embedding" in failed.stderr
    assert "release 1 runs" in failed.stderr
    assert "face_embedding: version 1 serves again instead of 2" in failed.stdout
    assert score(changed) == before

    version_store = VersionStore(changed.repository, changed.home)
    assert {version_store.newest(stage) for stage in STAGE_NAMES} == {1}
    assert version_store.kept_versions("face_embedding") == [2]
    journal = Journal(changed.home)
    assert journal.current() == 1
    assert [e.event for e in journal.entries() if e.number == 2][-1] is Event.ROLLED_BACK
    assert stat.S_IMODE(journal.log_of(2).stat().st_mode) == 0o600
    print(journal.log_of(2).read_text())
