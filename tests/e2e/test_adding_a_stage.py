"""`docs/adding-a-stage.md` runs as it stands: its edits, in a copy of the project, give a value."""

import base64
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import requests
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from gateway.settings import CHECKOUT
from tests.support import photos
from tests.support.serving import Served, make_settings, serving, variables, wait_until

PAGE = CHECKOUT / "docs" / "adding-a-stage.md"
SLOPE, OFFSET = np.array([[0.1], [0.2], [-0.1]], np.float32), np.float32(0.5)


def blocks() -> list[tuple[str, str, str]]:
    """Path named before it (or nothing), language and text of each block."""
    found = re.findall(
        r"(?:^`([\w./]+)`:\n\n)?^```(\w+)\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE
    )
    assert len(found) == 9
    return found


def apply(diff: str, path: Path) -> None:
    """Apply the hunks of a diff without line numbers; what a hunk replaces stands there once."""
    text = path.read_text()
    for hunk in re.split(r"^@@.*\n", diff, flags=re.MULTILINE)[1:]:
        lines = [(line[0], line[1:]) for line in hunk.splitlines(keepends=True)]
        old = "".join(line for sign, line in lines if sign != "+")
        new = "".join(line for sign, line in lines if sign != "-")
        assert text.count(old) == 1, f"{path.name} does not have once:\n{old}"
        text = text.replace(old, new)
    path.write_text(text)


def write_network(path: Path) -> None:
    """A linear layer on the mean colour: floats [N,3,112,112] to [N,1]."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["crops"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["colour"]),
        helper.make_node("MatMul", ["colour", "slope"], ["product"]),
        helper.make_node("Add", ["product", "offset"], ["live"]),
    ]
    graph = helper.make_graph(
        nodes,
        "liveness",
        [helper.make_tensor_value_info("crops", TensorProto.FLOAT, ["n", 3, 112, 112])],
        [helper.make_tensor_value_info("live", TensorProto.FLOAT, ["n", 1])],
        [numpy_helper.from_array(SLOPE, "slope"), numpy_helper.from_array(OFFSET, "offset")],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)


def expected(crop: str) -> float:
    """What the network makes of an aligned face, a data URI of a PNG."""
    image = Image.open(io.BytesIO(base64.b64decode(crop.partition(",")[2])))
    colour = np.asarray(image, np.float64).mean(axis=(0, 1))
    return float(((colour - 127.5) / 127.5) @ SLOPE[:, 0] + OFFSET)


@pytest.fixture(scope="module")
def project(real_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the project and edit it as the page says."""
    folder = tmp_path_factory.mktemp("project")
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("gateway", "tools", "triton_python_backend"):
        shutil.copytree(CHECKOUT / name, folder / name, ignore=ignore)
    shutil.copytree(real_repository, folder / "model_repository")
    for name, language, text in blocks():
        path = folder / name
        if language == "diff":
            apply(text, path)
        elif name:
            assert not path.exists()
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
    write_network(folder / "liveness.onnx")
    return folder


@pytest.fixture(scope="module")
def served(project: Path):
    settings = make_settings(project, project / "model_repository", request_timeout_seconds=60.0)
    command = project / "bin" / "aurum"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m tools "$@"\n')
    command.chmod(0o755)
    environment = variables(settings) | {
        "PATH": f"{command.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(project),
    }
    (imported, start, asked) = (text for _, language, text in blocks() if language == "sh")

    def run(script: str) -> str:
        finished = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert finished.returncode == 0, finished.stderr
        return finished.stdout

    assert "face_liveness" in run(imported)
    assert start == "aurum serve\n"
    with serving(settings, checkout=project) as running:
        running.wait_for("Aurum is ready")
        assert '"liveness":' in run(asked.replace("localhost:8080", running.url[len("http://") :]))
        yield running


LOOPS = """
import numpy as np
from dataclasses import replace
from gateway.cache import codec, keys
from gateway.monitoring.golden_probe import NEED, answer_parts
from gateway.registry.measures import measure_face
from gateway.registry.reference import MEASURES
from gateway.rollout.compare import compare
from gateway.rollout.plan import Candidate
from gateway.types import Analysis, Need, Weights
from tests.support.fake_candidate import plan
from tests.support.fake_inference import expected_face
from triton_python_backend.contract import LIVENESS

stage = LIVENESS.name
weights = {"face_detection": Weights("d" * 16, "1"), stage: Weights("f" * 16, "1")}
face = expected_face(0, 0, Need.NOTHING_MORE).with_outputs(liveness=0.25)
value = codec.encode((face,), image="i", field="f")
assert codec.decode(value, need=Need.LIVENESS).faces == (face,)
assert codec.decode(value, need=Need.NOTHING_MORE).faces[0].outputs == {}
field = keys.field(release="1", tenant="t", need=Need.LIVENESS, weights=weights)
other = {**weights, stage: Weights("e" * 16, "2")}
assert field != keys.field(release="1", tenant="t", need=Need.LIVENESS, weights=other)

tried = Candidate(plan(stage=stage), Weights("e" * 16, "2"))
assert tried.concerns(Need.LIVENESS) and not tried.concerns(Need.SCORE)
active = Analysis((face,), weights)
found = compare(active, replace(active, faces=(face.with_outputs(liveness=0.75),)))
assert found.values["liveness"] == (0.5,)
assert compare(active, replace(active, faces=(face.with_outputs(liveness=None),))).lost["liveness"]

assert MEASURES[stage] == ("liveness",)
assert list(measure_face(LIVENESS, face, None)) == [("liveness", 0.25)]
assert Need.LIVENESS in NEED
assert answer_parts(active)[stage] == ("d" * 16 + "-" + "f" * 16, (0.25,))
"""


def test_cache_trials_drift_and_probe_know_it(project):
    shutil.copytree(CHECKOUT / "tests" / "support", project / "tests" / "support")
    done = subprocess.run(
        [sys.executable, "-c", LOOPS], cwd=project, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def ask(served: Served, route: str, data: bytes, **params: object) -> dict:
    answer = requests.post(
        f"{served.url}/api/ml/{route}", params=params, files={"image": ("x", data)}, timeout=60
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("route", ["detect", "embed", "score"])
def test_each_face_has_the_new_value_computed_and_cached(served, route):
    include = {"include": "liveness,crop"}
    answers = [ask(served, route, photos.group_photo(), **include)]

    def is_cached() -> bool:
        answers.append(ask(served, route, photos.group_photo(), **include))
        return answers[-1]["cached"]

    assert wait_until(is_cached)
    for answer in answers:
        assert len(answer["faces"]) == 6
        for face in answer["faces"]:
            assert face["liveness"] == pytest.approx(expected(face["crop"]), abs=1e-3)
        assert answer["models"]["liveness"] == "1"
    assert answers[0]["faces"] == answers[-1]["faces"]


def test_who_does_not_ask_gets_the_answer_as_before(served):
    answer = ask(served, "score", photos.PORTRAIT.read_bytes())
    (face,) = answer["faces"]
    assert list(face) == ["box", "landmarks", "confidence", "quality", "score"]
    assert answer["models"]["liveness"] is None
    assert ask(served, "detect", photos.blank(), include="liveness")["faces"] == []


def test_the_stage_is_listed_ready_and_probed(served):
    stages = requests.get(f"{served.url}/api/ml/models", timeout=60).json()["stages"]
    (found,) = (stage for stage in stages if stage["name"] == "face_liveness")
    assert found["serving"] == "1"
    assert re.fullmatch("[0-9a-f]{16}", found["versions"][0]["id"])
    ready = requests.get(f"{served.url}/api/health/ready", timeout=60).json()
    assert ready["parts"]["face_liveness"]["status"] == "ready"

    def probed() -> bool:
        text = requests.get(f"{served.url}/metrics", timeout=60).text
        return "aurum_portrait_liveness_difference 0.0" in text

    assert wait_until(probed)
