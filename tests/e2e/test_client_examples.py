"""The Python client's examples as programs, and its local engine beside the service."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from aurum_client import AurumClient, FaceError, FaceOptions, ImageError, InvalidRequestError
from aurum_client.local import LocalEngine

from gateway.settings import CHECKOUT
from tests.support import photos

CLIENT = CHECKOUT / "clients" / "python"


def example(name: str, *arguments: str | Path) -> list[str]:
    """Run an example to its end; returns the lines that it printed."""
    done = subprocess.run(
        [sys.executable, CLIENT / "examples" / name, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": str(CLIENT / "src")},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_example_of_the_readme(stack):
    readme = (CHECKOUT / "README.md").read_text()
    (program,) = (
        text
        for text in re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
        if "aurum_client" in text
    )
    done = subprocess.run(
        [sys.executable, "-c", program.replace("http://localhost:8080", stack.url)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "PYTHONPATH": str(CLIENT / "src")},
    )
    assert 1 <= float(done.stdout) <= 10


def test_score_a_folder(stack, tmp_path):
    shutil.copy(photos.PORTRAIT, tmp_path / "a.png")
    (tmp_path / "b.jpg").write_bytes(b"no image")
    first, second = example("score_folder.py", tmp_path, stack.url)
    name, _, score = first.partition("\t")
    assert name.endswith("a.png")
    assert 1 <= float(score) <= 10
    assert "unsupported_media_type" in second


def test_enrol_and_search(stack):
    lines = example("enrol_and_search.py", photos.PORTRAIT, photos.PORTRAIT, stack.url)
    assert [line.split()[0] for line in lines] == ["enrolled", "found", "stored", "deleted"]
    assert lines[1] == "found somebody 1.0"


def test_an_async_batch(stack, tmp_path):
    other = shutil.copy(photos.PORTRAIT, tmp_path / "other.png")
    missing, pair = example("async_batch.py", stack.url, photos.PORTRAIT, other, "/nowhere")
    assert missing.startswith("/nowhere: ")
    assert pair.endswith(": 1.000")


def test_a_job(stack, tmp_path):
    shutil.copy(photos.PORTRAIT, tmp_path / "a.png")
    (tmp_path / "b.jpg").write_bytes(b"no image")
    first, second = example("batch_job.py", tmp_path, stack.url)
    name, _, score = first.partition("\t")
    assert name == "a.png"
    assert 1 <= float(score) <= 10
    assert second == "b.jpg\tunsupported_media_type"


@pytest.mark.parametrize("operation", ["score", "detect", "embed"])
def test_the_local_engine_answers_as_the_service(stack, operation):
    engine = LocalEngine(stack.repository)
    image = photos.PORTRAIT.read_bytes()
    local = getattr(engine, operation)(image, FaceOptions(include=("crop",)))
    with AurumClient(stack.url) as client:
        served = getattr(client, operation)(image, include=["crop"])
    assert local.models == served.models
    assert local.image == served.image
    assert local.score_range == served.score_range
    (face,), (expected,) = local.faces, served.faces
    assert face.box == pytest.approx(expected.box, abs=0.5)
    assert face.crop is not None
    assert face.score == pytest.approx(expected.score, abs=0.05)
    if expected.embedding is None:
        assert face.embedding is None
    else:
        assert float(face.vector() @ expected.vector()) > 0.999


def test_the_local_engine_refuses_as_the_service(stack):
    engine = LocalEngine(stack.repository)
    for image, kind, code in (
        (b"no image", ImageError, "unsupported_media_type"),
        (photos.encode(photos.portrait().crop((0, 0, 60, 60)), "PNG"), FaceError, "no_face"),
    ):
        with AurumClient(stack.url) as client, pytest.raises(kind) as served:
            client.score(image)
        with pytest.raises(kind) as local:
            engine.score(image, FaceOptions())
        assert local.value.code == served.value.code == code
        assert local.value.status == served.value.status
        assert local.value.detail == served.value.detail
    with pytest.raises(InvalidRequestError, match="include"):
        engine.detect(photos.PORTRAIT.read_bytes(), FaceOptions(include=("age",)))
