"""Requests, answers and files of each peer; none is started."""

import base64
import email
import json
import subprocess
from email.policy import HTTP

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from benchmarks.peers.aurum import Aurum
from benchmarks.peers.immich import Immich
from benchmarks.peers.insightface_rest import InsightFaceRest, with_batch_axis
from benchmarks.peers.insightface_server import InsightFaceServer
from benchmarks.peers.service import Networks, NotRunError

PHOTO = b"\xff\xd8 photo \xff\xd9"


@pytest.fixture
def networks(tmp_path):
    """Two files; the detector gives one output [N,C]."""
    detector, embedder = tmp_path / "det_500m.onnx", tmp_path / "mobile.onnx"
    save_detector(detector, opset=11)
    embedder.write_bytes(b"embedder")
    return Networks(detector, embedder)


def save_detector(file, *, opset):
    shape = [3, 2]
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["scores"])],
        "detector",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, shape)],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=6), file
    )


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


def parts(request):
    """The fields of a form by name."""
    head = f"Content-Type: {request.content_type}\r\n\r\n".encode()
    message = email.message_from_bytes(head + request.body, policy=HTTP)
    return {
        part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
        for part in message.iter_parts()
    }


def test_insightface_server_gets_a_form_with_the_photo(tmp_path, folder):
    request = InsightFaceServer(tmp_path, folder).request(PHOTO)
    assert request.path == "/v1/embeddings"
    assert parts(request) == {"image": PHOTO}


def test_insightface_server_answers_one_face(tmp_path, folder):
    peer = InsightFaceServer(tmp_path, folder)
    assert peer.faces(b'{"faces": [{"embedding": [0.1]}]}') == 1
    assert peer.faces(b'{"faces": []}') == 0
    assert not peer.answers_all


def test_insightface_server_finds_a_manifest_with_both_networks(tmp_path, folder, networks):
    licences = tmp_path / "server/backend/insightface_server/licensing/defaults/buffalo_sc"
    licences.mkdir(parents=True)
    (licences / "MODEL.LICENSE").write_text("signed")
    InsightFaceServer(tmp_path, folder).place(networks)
    manifest = json.loads((folder / "models" / "manifest.json").read_text())
    assert manifest["recognition"]["embedding_dimension"] == 128
    named = [*manifest["files"].values(), manifest["license"]]
    assert all((folder / "models" / name).is_file() for name in named)


def test_insightface_server_without_a_licence_is_not_run(tmp_path, folder, networks):
    with pytest.raises(NotRunError, match=r"MODEL\.LICENSE"):
        InsightFaceServer(tmp_path, folder).place(networks)


def test_insightface_server_takes_the_library_of_its_checkout(tmp_path, folder):
    peer = InsightFaceServer(tmp_path, folder)
    assert ["--no-deps", "insightface"] in peer.packages()
    (tmp_path / "python-package" / "insightface").mkdir(parents=True)
    assert ["--no-deps", "insightface"] not in peer.packages()
    assert str(tmp_path / "python-package") in peer.environment(1)["PYTHONPATH"].split(":")


def test_immich_gets_both_stages(tmp_path, folder):
    request = Immich(tmp_path, folder).request(PHOTO)
    fields = parts(request)
    assert fields["image"] == PHOTO
    stages = json.loads(fields["entries"])["facial-recognition"]
    assert set(stages) == {"detection", "recognition"}


def test_immich_answers_embeddings_as_texts(tmp_path, folder):
    answer = {"facial-recognition": [{"embedding": "[0.1,0.2]"}] * 2, "imageWidth": 1}
    assert Immich(tmp_path, folder).faces(json.dumps(answer).encode()) == 2


def test_immich_finds_networks_in_its_cache(tmp_path, folder, networks):
    peer = Immich(tmp_path, folder)
    peer.place(networks)
    peer.place(networks)
    pack = folder / "cache" / "facial-recognition" / "buffalo_s"
    assert (pack / "detection" / "model.onnx").read_bytes() == networks.detector.read_bytes()
    assert (pack / "recognition" / "model.onnx").read_bytes() == b"embedder"
    assert peer.environment(5)["MACHINE_LEARNING_CACHE_FOLDER"] == str(folder / "cache")


def test_insightface_rest_gets_base64_in_json(tmp_path, folder):
    request = InsightFaceRest(tmp_path, folder).request(PHOTO)
    assert request.content_type == "application/json"
    (sent,) = json.loads(request.body)["images"]["data"]
    assert base64.b64decode(sent) == PHOTO


def test_insightface_rest_answers_one_entry_a_picture(tmp_path, folder):
    peer = InsightFaceRest(tmp_path, folder)
    answer = {"data": [{"faces": [{"vec": [0.1]}, {"vec": None}]}]}
    assert peer.faces(json.dumps(answer).encode()) == 1
    assert peer.faces(b'{"data": [{"status": "failed", "faces": []}]}') == 0


def test_insightface_rest_takes_no_package_from_git(tmp_path, folder):
    (tmp_path / "requirements.txt").write_text("fastapi\ngit+https://example/x.git\nonnx==1.16.0")
    (words,) = InsightFaceRest(tmp_path, folder).packages()
    assert "onnx==1.16.0" in words
    assert not any(word.startswith("git+") for word in words)


def test_insightface_rest_lists_its_networks(tmp_path, folder, networks):
    peer = InsightFaceRest(tmp_path, folder)
    peer.place(networks)
    listed = json.loads((folder / "models" / "models.json").read_text())
    environment = peer.environment(1)
    for name in (environment["DET_NAME"], environment["REC_NAME"]):
        assert name in listed
        assert (folder / "models" / "onnx" / name / f"{name}.onnx").is_file()


@pytest.mark.parametrize("opset", [11, 13])
def test_outputs_gain_a_batch_axis(tmp_path, opset):
    flat, batched = tmp_path / "flat.onnx", tmp_path / "batched.onnx"
    save_detector(flat, opset=opset)
    with_batch_axis(flat, batched)
    session = onnxruntime.InferenceSession(str(batched))
    (output,) = session.run(["scores"], {"x": np.ones((3, 2), np.float32)})
    assert output.shape == (1, 3, 2)


def test_aurum_gets_the_photo_as_it_is():
    aurum = Aurum(stack=None)
    request = aurum.request(PHOTO)
    assert (request.body, request.content_type) == (PHOTO, "image/jpeg")
    assert aurum.faces(b'{"faces": [{"embedding": [1.0]}, {"embedding": [1.0]}]}') == 2


def test_a_peer_names_the_commit_of_its_checkout(tmp_path, folder):
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "one"], check=True)
    head = subprocess.check_output([*git, "rev-parse", "HEAD"], text=True)
    assert f"commit {head[:12]}" in Immich(tmp_path, folder).origin()["built from"]


def test_a_folder_within_another_checkout_has_no_commit(tmp_path, folder):
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "one"], check=True)
    (tmp_path / "immich").mkdir()
    assert "without Git" in Immich(tmp_path / "immich", folder).origin()["built from"]


def test_a_copy_without_git_is_named_by_its_digest_and_note(tmp_path, folder):
    (tmp_path / "a.py").write_text("one")
    first = Immich(tmp_path, folder).origin()["built from"]
    (tmp_path / "a.py").write_text("two")
    (tmp_path / "ORIGIN").write_text("release 9\n")
    second = Immich(tmp_path, folder).origin()["built from"]
    assert "without Git" in first
    assert "release 9" in second
    assert first[-12:] != second[-12:]


def test_versions_come_from_the_sources(tmp_path, folder):
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "pyproject.toml").write_text('[project]\nversion = "0.2.0"\n')
    (tmp_path / "if_rest" / "api").mkdir(parents=True)
    code = "__version__ = os.getenv('IFR_VERSION', '0.9.5.0')\n"
    (tmp_path / "if_rest" / "api" / "main.py").write_text(code)
    assert InsightFaceServer(tmp_path, folder).version() == "0.2.0"
    assert InsightFaceRest(tmp_path, folder).version() == "0.9.5.0"
    assert Immich(tmp_path, folder).version() == "unknown"
