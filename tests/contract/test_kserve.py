"""KServe v2 through the gateway and from Triton look the same to `tritonclient.http`."""

import http.client
import json
import socket
import struct
from collections.abc import Iterator

import numpy as np
import pytest
import tritonclient.http as tritonclient
from tritonclient.utils import InferenceServerException

from gateway.kserve.public_models import public_models
from gateway.settings import CHECKOUT
from tests.support.serving import Served

PORTRAIT = (CHECKOUT / "tools" / "golden" / "eileen_collins.png").read_bytes()
MODELS = {model.name: model for model in public_models(scored=True)}
INFER = "/v2/models/face_pipeline/infer"
Client = tritonclient.InferenceServerClient


@pytest.fixture(scope="module")
def ours(stack: Served) -> Iterator[Client]:
    client = Client(stack.url.removeprefix("http://"), network_timeout=120)
    yield client
    client.close()


@pytest.fixture(scope="module")
def direct(stack: Served) -> Iterator[Client]:
    client = Client(stack.http_address, network_timeout=120)
    yield client
    client.close()


def tensor(name: str, array: np.ndarray, *, binary: bool = True) -> tritonclient.InferInput:
    kinds = {"O": "BYTES", "f": "FP32", "u": "UINT8", "i": "INT64"}
    made = tritonclient.InferInput(name, list(array.shape), kinds[array.dtype.kind])
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def image(data: bytes = PORTRAIT) -> tritonclient.InferInput:
    return tensor("IMAGE", np.array([data], dtype=np.object_))


def wanted(name: str, *, binary: bool) -> tritonclient.InferRequestedOutput:
    return tritonclient.InferRequestedOutput(name, binary_data=binary)


def assert_same(ours: Client, direct: Client, model: str, inputs: list, **more: object) -> None:
    got, expected = (client.infer(model, inputs, **more) for client in (ours, direct))
    answers = got.get_response(), expected.get_response()
    described = [
        [(each["name"], each["datatype"], each["shape"]) for each in answer["outputs"]]
        for answer in answers
    ]
    assert described[0] == described[1]
    assert answers[0].get("id") == answers[1].get("id")
    assert answers[0]["model_version"] == answers[1]["model_version"]
    for name, _, _ in described[0]:
        np.testing.assert_array_equal(got.as_numpy(name), expected.as_numpy(name))


def test_server_and_models_have_the_metadata_of_triton(ours: Client, direct: Client) -> None:
    assert ours.is_server_live()
    assert ours.is_server_ready()
    assert ours.get_server_metadata()["version"] == direct.get_server_metadata()["version"]
    for name in MODELS:
        for version in ("", "1"):
            assert ours.is_model_ready(name, version)
            assert ours.get_model_metadata(name, version) == direct.get_model_metadata(
                name, version
            )
            assert ours.get_model_config(name, version) == direct.get_model_config(name, version)
    assert not ours.is_model_ready("face_pipeline", "9")
    assert not ours.is_model_ready("face_preprocess")


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"request_id": "mine", "model_version": "1"},
        {"outputs": [wanted("BOXES", binary=False), wanted("EMBEDDING", binary=True)]},
        {"request_compression_algorithm": "gzip", "response_compression_algorithm": "gzip"},
        {"request_compression_algorithm": "deflate", "response_compression_algorithm": "deflate"},
        {"timeout": 10_000_000, "priority": 1, "parameters": {"a": "b", "c": 1, "d": True}},
    ],
    ids=["all", "id", "outputs", "gzip", "deflate", "parameters"],
)
def test_the_ensemble_gives_the_same_answer(ours: Client, direct: Client, more: dict) -> None:
    assert_same(ours, direct, "face_pipeline", [image()], **more)


@pytest.mark.parametrize("binary", [True, False])
def test_the_networks_give_the_same_answers(ours: Client, direct: Client, binary: bool) -> None:
    found = direct.infer("face_pipeline_unscored", [image()])
    crops, embedding, space = (found.as_numpy(name) for name in ("CROPS", "EMBEDDING", "SPACE"))
    canvas = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3)).astype(np.uint8)
    assert_same(ours, direct, "face_pipeline_unscored", [image()])
    for model, inputs in (
        ("face_embedding", {"CROPS": crops}),
        ("face_scoring", {"EMBEDDING": embedding, "SPACE": space}),
        ("face_detection", {"CANVAS": canvas}),
    ):
        given = [tensor(name, array, binary=binary) for name, array in inputs.items()]
        outputs = [wanted(each.name, binary=binary) for each in MODELS[model].outputs]
        assert_same(ours, direct, model, given, outputs=outputs)


@pytest.mark.parametrize(
    ("data", "status", "sentence"),
    [
        (b"text", "415", "none of JPEG"),
        (b"", "422", "no bytes"),
        (PORTRAIT[:5000], "422", "ends before its image does"),
    ],
)
def test_a_bad_image_raises_the_message_of_the_gateway(
    ours: Client, data: bytes, status: str, sentence: str
) -> None:
    with pytest.raises(InferenceServerException, match=sentence) as caught:
        ours.infer("face_pipeline", [image(data)])
    assert caught.value.status() == status


def test_shapes_that_a_network_cannot_compute_are_client_errors(ours: Client) -> None:
    with pytest.raises(InferenceServerException, match="shapes") as caught:
        ours.infer("face_detection", [tensor("CANVAS", np.zeros((1, 1, 1, 3), np.uint8))])
    assert caught.value.status() == "400"


def test_requests_that_kill_triton_are_refused_and_triton_survives(
    ours: Client, stack: Served
) -> None:
    before = stack.pid
    element = struct.pack("<I", len(PORTRAIT)) + PORTRAIT
    start = '{"inputs":[{"name":"IMAGE","shape":[1],"datatype":"BYTES",'
    deep = "[" * 40_000 + "]" * 40_000
    nested = [
        f'{start}"data":{deep}}}]}}',
        f'{start}"data":["a"],"parameters":{{"a":{deep}}}}}]}}',
        f'{start}"data":["a"]}}],"parameters":{{"a":{deep}}}}}',
    ]
    head = f'{start}"parameters":{{"binary_data_size":{len(element)}}},"x":{deep}}}]}}'
    for text, tensors in [*((text, b"") for text in nested), (head, element)]:
        answer = send(stack, text.encode() + tensors, head=len(text) if tensors else None)
        assert answer["code"] == "invalid_request"
    assert million_chunks(stack).startswith(b"HTTP/1.1 400 ")
    assert len(ours.infer("face_pipeline", [image()]).as_numpy("BOXES")) == 1
    assert stack.pid == before


def send(stack: Served, body: bytes, *, head: int | None) -> dict:
    connection = http.client.HTTPConnection("127.0.0.1", stack.settings.port, timeout=60)
    headers = {"Content-Type": "application/json"}
    if head is not None:
        headers["Inference-Header-Content-Length"] = str(head)
    connection.request("POST", INFER, body, headers)
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return answer


def million_chunks(stack: Served) -> bytes:
    with socket.create_connection(("127.0.0.1", stack.settings.port), timeout=60) as line:
        line.sendall(
            f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            "Transfer-Encoding: chunked\r\n\r\n".encode()
        )
        for _ in range(100):
            line.sendall(b"1\r\n \r\n" * 10_000)
        line.sendall(b"0\r\n\r\n")
        return line.recv(100)
