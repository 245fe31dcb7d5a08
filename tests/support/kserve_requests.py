"""Requests of the KServe protocol, and their packing for Triton, for unit tests."""

import json
import struct
from typing import Any

import pytest

from gateway.errors import AurumError, InvalidRequestError
from gateway.images import ImageLimits
from gateway.kserve.public_models import PublicModel, find_model
from gateway.kserve.request import pack_request
from tests.support.fake_inference import photo

LIMITS = ImageLimits(100_000, 1.0)
PIPELINE = find_model("face_pipeline", scored=True)
SCORING = find_model("face_scoring", scored=True)
EMBEDDING = find_model("face_embedding", scored=True)
PHOTO = photo()
ELEMENT = struct.pack("<I", len(PHOTO)) + PHOTO


def image(**changes: Any) -> dict[str, Any]:
    described = {"name": "IMAGE", "shape": [1], "datatype": "BYTES"}
    return {**described, "parameters": {"binary_data_size": len(ELEMENT)}, **changes}


def vector(data: str, shape: str = "[1,4]", space: str = "[[7]]") -> bytes:
    """Return the inputs of the scoring stage as JSON."""
    return (
        f'{{"inputs":[{{"name":"EMBEDDING","shape":{shape},"datatype":"FP32","data":{data}}},'
        f'{{"name":"SPACE","shape":[1,1],"datatype":"INT64","data":{space}}}]}}'
    ).encode()


def pack(
    document: Any,
    tensors: bytes = b"",
    model: PublicModel = PIPELINE,
    head: int | None = None,
) -> tuple[Any, bytes]:
    """Return the JSON and the tensors that Triton gets."""
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    size = len(text) if head is None else head
    packed = pack_request(
        text + tensors, head_bytes=size if tensors or head else None, model=model, limits=LIMITS
    )
    return json.loads(packed.body[: packed.head_bytes]), packed.body[packed.head_bytes :]


def refused(
    document: Any,
    tensors: bytes = b"",
    kind: type[AurumError] = InvalidRequestError,
    **more: Any,
) -> str:
    with pytest.raises(AurumError) as caught:
        pack(document, tensors, **more)
    assert type(caught.value) is kind
    assert len(caught.value.detail) < 400
    return caught.value.detail
