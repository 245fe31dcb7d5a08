"""Limits of a KServe request, and the request that Triton gets."""

import gzip
import json
import struct
import zlib

import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from gateway.errors import (
    ImageTooLargeError,
    InvalidImageError,
    InvalidRequestError,
    NotFoundError,
    UnsupportedMediaTypeError,
)
from gateway.kserve.message import check_message
from gateway.kserve.public_models import find_model
from gateway.kserve.request import pack_request, unpack
from tests.support.fake_inference import photo
from tests.support.kserve_requests import (
    ELEMENT,
    EMBEDDING,
    LIMITS,
    PHOTO,
    PIPELINE,
    SCORING,
    image,
    pack,
    refused,
    vector,
)
from triton_python_backend import contract


def test_a_binary_image_is_passed_on_with_all_outputs():
    head, tensors = pack({"inputs": [image()], "id": "a"}, ELEMENT)
    assert tensors == ELEMENT
    assert head["id"] == "a"
    assert head["inputs"] == [image()]
    names = [tensor.name for tensor in contract.PIPELINE.outputs]
    expected = [{"name": name, "parameters": {"binary_data": False}} for name in names]
    assert head["outputs"] == expected


def test_each_output_has_its_own_form_or_the_common_one():
    asked = [{"name": "BOXES"}, {"name": "SCORE", "parameters": {"binary_data": False}}]
    document = {"inputs": [image()], "outputs": asked, "parameters": {"binary_data_output": True}}
    head, _ = pack(document, ELEMENT)
    forms = [output["parameters"]["binary_data"] for output in head["outputs"]]
    assert forms == [True, False]
    assert "parameters" not in head


def test_parameters_are_passed_on():
    given = {
        "timeout": 5,
        "priority": 1,
        "sequence_id": "s",
        "a": True,
        "b": 1.5,
        "c": -3,
        "d": "x",
    }
    head, _ = pack({"inputs": [image()], "parameters": given}, ELEMENT)
    assert head["parameters"] == given


@pytest.mark.parametrize("data", ["[1,2.5,-3,4]", "[[1,2.5],[-3,4]]", "[ [[1], [2.5]], -3,\n4 ]"])
def test_json_numbers_become_binary_however_they_nest(data):
    head, tensors = pack(vector(data), model=SCORING)
    assert [each["parameters"]["binary_data_size"] for each in head["inputs"]] == [16, 8]
    assert np.frombuffer(tensors[:16], "<f4").tolist() == [1, 2.5, -3, 4]
    assert np.frombuffer(tensors[16:], "<i8").tolist() == [7]


def test_many_numbers_are_read_in_pieces_without_losing_one():
    crops = np.random.default_rng(0).integers(0, 256, (8, 112, 112, 3)).astype(np.uint8)
    given = {"name": "CROPS", "shape": list(crops.shape), "datatype": "UINT8"}
    _, tensors = pack({"inputs": [{**given, "data": crops.tolist()}]}, model=EMBEDDING)
    assert tensors == crops.tobytes()


@pytest.mark.parametrize("space", [2**63 - 1, -(2**63)])
def test_the_limits_of_64_bits_fit(space):
    _, tensors = pack(vector("[1,1,1,1]", space=f"[{space}]"), model=SCORING)
    assert np.frombuffer(tensors[16:], "<i8").tolist() == [space]


@pytest.mark.parametrize(
    "shape",
    [
        [],
        [0],
        [-1],
        [2],
        [1, 1],
        [2**62, 2**62],
        [2**64],
        [1.0],
        [True],
        ["1"],
        [None],
        [1] * 5000,
        5,
    ],
)
def test_a_shape_that_does_not_fit_the_data_is_refused(shape):
    assert "IMAGE" in refused({"inputs": [image(shape=shape)]}, ELEMENT)


@pytest.mark.parametrize(
    ("shape", "data"), [("[1,0]", "[]"), ("[4]", "[1,1,1,1]"), ("[1,2,2]", "[1,1,1,1]")]
)
def test_a_shape_must_be_that_of_the_model_even_if_the_data_fit(shape, data):
    assert "has the shape [-1,-1]" in refused(vector(data, shape=shape), model=SCORING)


def test_a_number_of_thousands_of_digits_is_refused():
    digits = b"9" * 5000
    text = b'{"inputs":[{"name":"IMAGE","shape":[%s],"datatype":"BYTES","data":["a"]}]}' % digits
    refused(text)
    refused(vector("[1,1,1,1]", space=f"[{digits.decode()}]"), model=SCORING)


@pytest.mark.parametrize("size", [-1, 2**63, 2**70, 1.5, "5", True, [], 0, len(ELEMENT) - 1])
def test_binary_sizes_must_agree_with_the_body(size):
    refused({"inputs": [image(parameters={"binary_data_size": size})]}, ELEMENT)


def test_binary_data_beyond_the_body_are_refused():
    given = image(parameters={"binary_data_size": len(ELEMENT) + 1})
    assert "exceeds" in refused({"inputs": [given]}, ELEMENT)


def test_bytes_that_belong_to_no_input_are_refused():
    assert "1 bytes of the body belong to no input" in refused(
        {"inputs": [image()]}, ELEMENT + b"x"
    )


@pytest.mark.parametrize("head", [10_000_000, 5, 1])
def test_a_missing_json_head_is_refused(head):
    refused({"inputs": [image()]}, ELEMENT, head=head)


@pytest.mark.parametrize("length", [0, 1, len(PHOTO) - 1, len(PHOTO) + 1, 2**32 - 1])
def test_a_wrong_length_is_refused(length):
    refused({"inputs": [image()]}, struct.pack("<I", length) + PHOTO)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "PIXELS"},
        {"datatype": "FP32"},
        {"datatype": "TEXT"},
        {"datatype": 5},
        {"parameters": {}},
        {"data": ["a"]},
        {"parameters": {"shared_memory_region": "a", "shared_memory_byte_size": 5}},
        {"colour": "red"},
    ],
)
def test_an_input_that_does_not_fit_the_model_is_refused(changes):
    refused({"inputs": [image(**changes)]}, ELEMENT)


def test_names_must_be_unique():
    assert "twice" in refused({"inputs": [image(), image()]}, ELEMENT + ELEMENT)
    twice = [{"name": "BOXES"}, {"name": "BOXES"}]
    assert "twice" in refused({"inputs": [image()], "outputs": twice}, ELEMENT)


def test_no_input_may_be_missing():
    text = vector("[1,1,1,1]")
    document = json.loads(text)
    del document["inputs"][1]
    assert "'SPACE'" in refused(document, model=SCORING)


@pytest.mark.parametrize(
    "output",
    [
        {"name": "PIXELS"},
        {"name": "BOXES", "parameters": {"classification": 5}},
        {"name": "BOXES", "parameters": {"shared_memory_region": "a"}},
        {"name": "BOXES", "parameters": {"binary_data": 1}},
    ],
)
def test_an_output_that_is_not_offered_is_refused(output):
    refused({"inputs": [image()], "outputs": [output]}, ELEMENT)


@pytest.mark.parametrize(
    "parameters",
    [
        {"a": [1]},
        {"a": None},
        {"timeout": -1},
        {"a": 2**63},
        {"priority": 1.5},
        {"binary_data_output": 1},
        {"sequence_id": -1},
        {"sequence_start": 1},
        {"triton_x": 1},
        {"x" * 2000: 1},
        {"a": "x" * 2000},
        {f"p{number}": number for number in range(33)},
    ],
)
def test_parameters_are_few_scalars_of_their_kind(parameters):
    refused({"inputs": [image()], "parameters": parameters}, ELEMENT)


@pytest.mark.parametrize(
    "data",
    [
        *("[NaN,1,1,1]", "[1e999,1,1,1]", "[1e300,1,1,1]", '["1",1,1,1]', "[null,1,1,1]"),
        *("[true,1,1,1]", "[1,1,1]", "[1,1,1,1,1]", "[]", "[[],[],[],[]]", "[{},1,1,1]"),
        *('{"a":1}', '"abcd"', "5", "null", "[1,[],1,1]", "[1,1,1,1],[]"),
    ],
)
def test_data_of_another_type_are_refused(data):
    refused(vector(data), model=SCORING)


@pytest.mark.parametrize("space", ["[9223372036854775808]", "[1.5]", '["1"]', "[true]", "[1,2]"])
def test_integers_are_exact_and_within_64_bits(space):
    refused(vector("[1,1,1,1]", space=space), model=SCORING)


@pytest.mark.parametrize("value", [256, -1])
def test_a_number_beyond_its_type_is_refused(value):
    given = {"name": "CROPS", "shape": [1, 112, 112, 3], "datatype": "UINT8"}
    document = {"inputs": [{**given, "data": [value] * 37632}]}
    assert "UINT8" in refused(document, model=EMBEDDING)


def test_the_batch_is_bounded():
    given = {"name": "CROPS", "datatype": "UINT8", "parameters": {"binary_data_size": 513 * 37632}}
    document = {"inputs": [{**given, "shape": [513, 112, 112, 3]}]}
    assert "512 rows" in refused(document, bytes(513 * 37632), model=EMBEDDING)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", InvalidImageError),
        (b"hello", UnsupportedMediaTypeError),
        (PHOTO[:20], InvalidImageError),
        (PHOTO + bytes(100_000), ImageTooLargeError),
        (photo(size=(2000, 2000)), ImageTooLargeError),
    ],
)
def test_an_image_is_checked_as_in_other_routes(data, kind):
    element = struct.pack("<I", len(data)) + data
    given = image(parameters={"binary_data_size": len(element)})
    refused({"inputs": [given]}, element, kind=kind)


def test_an_image_as_json_text_is_also_checked():
    del (given := image(data=["no image"]))["parameters"]
    refused({"inputs": [given]}, kind=UnsupportedMediaTypeError)


def test_packed_bodies_are_unpacked_within_bounds():
    body = b"x" * 5000
    assert unpack(gzip.compress(body), "gzip", most=5000) == body
    assert unpack(zlib.compress(body), " Deflate", most=5000) == body
    assert unpack(body, "identity", most=5000) == body
    with pytest.raises(ImageTooLargeError):
        unpack(gzip.compress(body), "gzip", most=4999)
    for broken in (body, gzip.compress(body)[:-1], gzip.compress(body) + b"x"):
        with pytest.raises(InvalidRequestError):
            unpack(broken, "gzip", most=10_000)
    for other in ("br", "gzip, gzip", "zstd"):
        with pytest.raises(UnsupportedMediaTypeError):
            unpack(body, other, most=10_000)


def test_without_scoring_no_model_shows_a_score():
    with pytest.raises(NotFoundError):
        find_model("face_scoring", scored=False)
    model = find_model("face_pipeline", scored=False)
    head, _ = pack({"inputs": [image()]}, ELEMENT, model=model)
    assert not {"SCORE", "HEAD"} & {output["name"] for output in head["outputs"]}
    refused({"inputs": [image()], "outputs": [{"name": "SCORE"}]}, ELEMENT, model=model)


def test_slow_requests_are_recognised_before_they_are_passed_on(monkeypatch):
    def is_slow(document) -> bool:
        text = json.dumps(document).encode()
        packed = pack_request(text + ELEMENT, head_bytes=len(text), model=PIPELINE, limits=LIMITS)
        return packed.is_slow

    assert not is_slow({"inputs": [image()]})
    assert is_slow({"inputs": [image()], "parameters": {"detail": "high"}})
    monkeypatch.setattr("triton_python_backend.formats.header.SLOW_NANOSECONDS", 0)
    assert is_slow({"inputs": [image()]})


def test_tensors_of_colours_are_counted_as_pixels():
    """A caller must not evade its megapixels by sending crops, or a canvas, instead of a photo."""
    given = {"name": "CROPS", "datatype": "UINT8", "shape": [2, 112, 112, 3]}
    data = bytes(2 * 112 * 112 * 3)
    document = {"inputs": [{**given, "parameters": {"binary_data_size": len(data)}}]}
    text = json.dumps(document).encode()
    packed = pack_request(text + data, head_bytes=len(text), model=EMBEDDING, limits=LIMITS)
    message = service_pb2.ModelInferRequest(model_name=EMBEDDING.name)
    message.inputs.add(**given)
    message.raw_input_contents.append(data)
    checked = check_message(message.SerializeToString(), scored=True, limits=LIMITS)
    assert packed.pixels == checked.pixels == 2 * 112 * 112
