"""Inference requests of KServe whose shapes, types, lengths and numbers do not fit."""

import gzip
import json
import struct
import zlib
from collections.abc import Iterator

from tests.e2e.hostile.case import (
    BAD_IMAGE,
    INVALID,
    NOT_FOUND,
    TOO_LARGE,
    UNKNOWN_TYPE,
    Case,
    Expected,
)
from tests.e2e.hostile.wire import GOOD, INFER, head, infer, post

_EMBEDDING = "/v2/models/face_embedding/infer"
_SCORING = "/v2/models/face_scoring/infer"
_LENGTH = "Inference-Header-Content-Length"


def cases() -> Iterator[Case]:
    """Yield all requests."""
    for name, request in _shapes().items():
        yield Case("tensors", name, {"infer": request}, INVALID)
    for name, (request, expected) in _bodies().items():
        yield Case("tensors", name, {"infer": request}, expected)
    for name, path in _paths().items():
        yield Case("tensors", name, {"infer": infer({"inputs": []}, path=path)}, NOT_FOUND)


def _image(tensor: bytes, **changes: object) -> bytes:
    """Ask about an image whose input differs."""
    described = {"name": "IMAGE", "shape": [1], "datatype": "BYTES"}
    size = {"parameters": {"binary_data_size": len(tensor)}}
    return infer({"inputs": [{**described, **size, **changes}]}, tensor)


def _crops(**changes: object) -> bytes:
    """Ask for an embedding of a crop whose input differs."""
    described = {"name": "CROPS", "shape": [1, 3, 112, 112], "datatype": "FP32", "data": [0.0] * 8}
    return infer({"inputs": [{**described, **changes}]}, path=_EMBEDDING)


def _vector(data: object, shape: object = (1, 4), kind: str = "FP32") -> bytes:
    """Ask for the score of an embedding."""
    first = {"name": "EMBEDDING", "shape": shape, "datatype": kind, "data": data}
    second = {"name": "SPACE", "shape": [1, 1], "datatype": "INT64", "data": [[7]]}
    return infer({"inputs": [first, second]}, path=_SCORING)


def _shapes() -> dict[str, bytes]:
    element = struct.pack("<I", len(GOOD)) + GOOD
    return {
        "tensor of shape []": _image(element, shape=[]),
        "tensor of shape [0]": _image(element, shape=[0]),
        "tensor of shape [-1]": _image(element, shape=[-1]),
        "tensor of shape [2**63]": _image(element, shape=[2**63]),
        "tensor of shape [2**64 + 1]": _image(element, shape=[2**64 + 1]),
        "tensor of shape [10**400]": _image(element, shape=[10**400]),
        "tensor of shape [1.5]": _image(element, shape=[1.5]),
        "tensor of a shape of text": _image(element, shape="1"),
        "tensor of a shape of 1,000 axes": _image(element, shape=[1] * 1000),
        "tensor of a shape that multiplies to 1": _image(element, shape=[2**32, 2**32]),
        "tensor of a shape of null": _image(element, shape=None),
        "crops of shape [2**31, 3, 112, 112]": _crops(shape=[2**31, 3, 112, 112]),
        "crops of shape [-1, -3, 112, 112]": _crops(shape=[-1, -3, 112, 112]),
        "crops with too few numbers": _crops(),
        "tensor of type FP64": _image(element, datatype="FP64"),
        "tensor of type UINT8": _image(element, datatype="UINT8"),
        "tensor of an unknown type": _image(element, datatype="<script>"),
        "tensor of a type of a megabyte": _image(element, datatype="x" * 100_000),
        "tensor of an unknown name": _image(element, name="__class__"),
        "tensor of a name of 100 KB": _image(element, name="n" * 100_000),
        "tensor whose size is negative": _image(element, parameters={"binary_data_size": -1}),
        "tensor whose size is 2**63": _image(element, parameters={"binary_data_size": 2**63}),
        "tensor whose size is true": _image(element, parameters={"binary_data_size": True}),
        "tensor whose size is a text": _image(element, parameters={"binary_data_size": "9"}),
        "tensor whose size is too small": _image(element, parameters={"binary_data_size": 3}),
        "tensor in shared memory": _image(element, parameters={"shared_memory_region": "a"}),
        "tensor with data twice": _image(element, data=["x"]),
        "element that says 4 GB": _image(b"\xff\xff\xff\xff" + GOOD),
        "element that says one byte more": _image(struct.pack("<I", len(GOOD) + 1) + GOOD),
        "element whose length is cut off": _image(b"\1\0"),
        "elements that are too many": _image(element * 2),
        "300,000 empty elements": _image(bytes(4) * 300_000),
        "no element": infer(
            {"inputs": [{"name": "IMAGE", "shape": [1], "datatype": "BYTES", "data": []}]}
        ),
        "elements within elements": infer(
            {"inputs": [{"name": "IMAGE", "shape": [1], "datatype": "BYTES", "data": [["x"]]}]}
        ),
        "numbers beyond FP32": _vector([1e300, 0, 0, 0]),
        "numbers that are texts": _vector(["1", "2", "3", "4"]),
        "numbers that are true": _vector([True, True, True, True]),
        "numbers that are null": _vector([None] * 4),
        "numbers nested to 40 levels": _vector(json.loads("[" * 40 + "1" + "]" * 40)),
        "numbers with gaps": infer(
            b'{"inputs":[{"name":"EMBEDDING","shape":[1,4],"datatype":"FP32","data":[1,,2,3]},'
            b'{"name":"SPACE","shape":[1,1],"datatype":"INT64","data":[[7]]}]}',
            path=_SCORING,
        ),
        "integers beyond 64 bits": infer(
            b'{"inputs":[{"name":"EMBEDDING","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]},'
            b'{"name":"SPACE","shape":[1,1],"datatype":"INT64","data":[[18446744073709551615]]}]}',
            path=_SCORING,
        ),
        "batch of 10**6 rows": _vector([0.0], [10**6, 4]),
        "an input twice": infer(
            {"inputs": [{"name": "IMAGE", "shape": [1], "datatype": "BYTES", "data": ["x"]}] * 2}
        ),
        "5,000 inputs": infer(
            {"inputs": [{"name": "IMAGE", "shape": [1], "datatype": "BYTES"}] * 5000}
        ),
        "no inputs": infer({"inputs": []}),
        "outputs that are unknown": infer({"inputs": [], "outputs": [{"name": "../x"}]}),
        "output in shared memory": _with(
            outputs=[{"name": "BOXES", "parameters": {"shared_memory_region": "a"}}]
        ),
        "output as classes": _with(
            outputs=[{"name": "BOXES", "parameters": {"classification": 5}}]
        ),
        "parameter of Triton's own": _with(parameters={"triton_enable_empty_final_response": True}),
        "priority of 2**70": _with(parameters={"priority": 2**70}),
        "priority of -1": _with(parameters={"priority": -1}),
        "timeout of text": _with(parameters={"timeout": "now"}),
        "sequence of -1": _with(parameters={"sequence_id": -1}),
        "1,000 parameters": _with(parameters={f"p{number}": 1 for number in range(1000)}),
        "parameter of a list": _with(parameters={"a": [1]}),
        "parameter of 100 KB": _with(parameters={"a": "x" * 100_000}),
        "id of 100 KB": _with(id="x" * 100_000),
        "id of a number": _with(id=7),
        "unknown member": _with(__proto__={}),
        "rotation that is unknown": _with(parameters={"rotation": "drop"}),
        "10**9 faces": _with(parameters={"max_faces": 10**9}),
        "-1 faces": _with(parameters={"max_faces": -1}),
    }


def _with(**more: object) -> bytes:
    """Ask about a sound image, and something else."""
    tensor = struct.pack("<I", len(GOOD)) + GOOD
    described = {
        "name": "IMAGE",
        "shape": [1],
        "datatype": "BYTES",
        "parameters": {"binary_data_size": len(tensor)},
    }
    return infer({"inputs": [described], **more}, tensor)


def _bodies() -> dict[str, tuple[bytes, Expected]]:
    body = b'{"inputs":[]}'
    bomb = gzip.compress(bytes(40 << 20))
    return {
        "length of JSON beyond the body": (post(INFER, body, f"{_LENGTH}: 99999"), INVALID),
        "length of JSON below zero": (post(INFER, body, f"{_LENGTH}: -1"), INVALID),
        "length of JSON of 30 digits": (post(INFER, body, f"{_LENGTH}: {'9' * 30}"), INVALID),
        "length of JSON in other digits": (post(INFER, body, f"{_LENGTH}: ٣"), INVALID),
        "length of JSON of 0": (post(INFER, body, f"{_LENGTH}: 0"), INVALID),
        "bytes that belong to no input": (
            post(INFER, body + b"xxxx", f"{_LENGTH}: {len(body)}"),
            INVALID,
        ),
        "gzip of 40 MB in 40 KB": (post(INFER, bomb, "Content-Encoding: gzip"), TOO_LARGE),
        "deflate of 40 MB in 40 KB": (
            post(INFER, zlib.compress(bytes(40 << 20)), "Content-Encoding: deflate"),
            TOO_LARGE,
        ),
        "gzip that is none": (post(INFER, b"x" * 90, "Content-Encoding: gzip"), INVALID),
        "gzip that is cut off": (
            post(INFER, gzip.compress(body)[:-5], "Content-Encoding: gzip"),
            INVALID,
        ),
        "gzip twice in a row": (
            post(INFER, gzip.compress(body) * 2, "Content-Encoding: gzip"),
            INVALID,
        ),
        "gzip within gzip": (
            post(INFER, gzip.compress(gzip.compress(body)), "Content-Encoding: gzip"),
            INVALID,
        ),
        "gzip, gzip": (
            post(INFER, gzip.compress(body), "Content-Encoding: gzip, gzip"),
            UNKNOWN_TYPE,
        ),
        "an encoding of 4 KB": (post(INFER, body, "Content-Encoding: " + "x" * 4000), UNKNOWN_TYPE),
        "a body of 21 MB": (post(INFER, bytes(21 << 20)), TOO_LARGE),
        "a body that says 10 GB": (head("POST", INFER, "Content-Length: 10000000000"), TOO_LARGE),
        "an image of text": (_image(struct.pack("<I", 5) + b"hello"), UNKNOWN_TYPE),
        "an image of no bytes": (_image(bytes(4)), BAD_IMAGE),
    }


def _paths() -> dict[str, str]:
    return {
        "model that climbs out": "/v2/models/..%2f..%2frepository%2findex/infer",
        "model of another stage": "/v2/models/face_preprocess/infer",
        "model on trial": "/v2/models/face_pipeline_candidate/infer",
        "model of 2,000 characters": f"/v2/models/{'m' * 2000}/infer",
        "version that climbs out": "/v2/models/face_pipeline/versions/..%2f1/infer",
        "version of 100 digits": f"/v2/models/face_pipeline/versions/{'9' * 100}/infer",
        "version below zero": "/v2/models/face_pipeline/versions/-1/infer",
        "version in other digits": "/v2/models/face_pipeline/versions/%D9%A1/infer",
        "index of the repository": "/v2/repository/index",
        "unloading of a model": "/v2/repository/models/face_pipeline/unload",
        "shared memory": "/v2/systemsharedmemory/region/a/register",
        "log settings": "/v2/logging",
        "trace settings": "/v2/trace/setting",
    }
