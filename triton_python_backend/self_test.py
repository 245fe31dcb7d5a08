"""A trial run of a network when it is loaded, so that a broken one never serves.

Triton keeps the active version if a newer one fails to load. So a network that loads but crashes or
outputs NaN on real shapes is rejected here, as part of loading.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from triton_python_backend import contract
from triton_python_backend.onnx_session import Arrays, Call, OnnxSession

SPACE_PROPERTY: Final = "aurum.space"
STAGE_PROPERTY: Final = "aurum.stage"
PORTRAIT: Final = Path(__file__).with_name("portrait.jpg")
"""A small portrait of Eileen Collins (NASA, public domain), the detector's test image."""

_BATCH: Final = 2
_DIMENSION: Final = 128
"""Width of the embeddings in the test of a head that accepts any width."""


class SelfTestError(ValueError):
    """A network that loads but does not work; the text describes its output."""


def self_test(stage: str, session: OnnxSession) -> None:
    """Run the network of a stage once on valid inputs.

    Models that are not an ONNX stage of the contract pass.

    Raises:
        SelfTestError: if the run fails, an output is not finite, an embedding does not have length
            1, or the detector finds no face in a portrait.
    """
    declared = next((each for each in contract.ONNX_STAGES if each.name == stage), None)
    if stage in _TESTS:
        _TESTS[stage](session)
    elif declared is not None:
        _further(declared, session)


@cache
def portrait() -> npt.NDArray[np.uint8]:
    """The portrait on a canvas, [320,320,3] uint8 RGB."""
    image = cv2.imdecode(np.frombuffer(PORTRAIT.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    return np.ascontiguousarray(image[..., ::-1])


def _detection(session: OnnxSession) -> None:
    canvases = np.stack([portrait(), np.zeros_like(portrait())])
    answer = _run(session, contract.DETECTION, {contract.CANVAS: canvases})
    # a network that was not imported has no mark and may detect something else
    if session.metadata.get(STAGE_PROPERTY) and not answer[contract.CONFIDENCE][0].any():
        raise SelfTestError("it finds no face in the portrait")


def _embedding(session: OnnxSession) -> None:
    edge = contract.CROP_SIZE
    crops = np.random.default_rng(0).integers(0, 256, (_BATCH, edge, edge, 3), dtype=np.uint8)
    answer = _run(session, contract.EMBEDDING_STAGE, {contract.CROPS: crops})
    lengths = np.linalg.norm(answer[contract.EMBEDDING].astype(np.float64), axis=-1)
    if session.metadata.get(STAGE_PROPERTY) and not np.allclose(lengths, 1, atol=1e-3):
        raise SelfTestError(f"its embeddings have the length {lengths[0]:.3f} instead of 1")


def _scoring(session: OnnxSession) -> None:
    space_id = session.metadata.get(SPACE_PROPERTY)
    width = session.width(contract.EMBEDDING) or _DIMENSION
    vectors = np.random.default_rng(0).normal(size=(_BATCH, width)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    space = np.full((_BATCH, 1), contract.parse_id(space_id) if space_id else 0, dtype=np.int64)
    inputs: Arrays = {contract.EMBEDDING: vectors, contract.SPACE: space}
    # a head outputs NaN for every space but its own
    _run(session, contract.SCORING, inputs, finite=space_id is not None)


def _further(stage: contract.Stage, session: OnnxSession) -> None:
    """Run a stage without a specific test on noise of its declared shapes."""
    noise = np.random.default_rng(0)
    inputs: Arrays = {}
    for tensor in stage.inputs:
        free = session.width(tensor.name) or _DIMENSION
        shape = (_BATCH, *(free if size < 0 else size for size in tensor.dims))
        if tensor.dtype == "UINT8":
            inputs[tensor.name] = noise.integers(0, 256, shape, dtype=np.uint8)
        elif tensor.dtype == "INT64":
            inputs[tensor.name] = np.zeros(shape, dtype=np.int64)
        else:
            inputs[tensor.name] = noise.normal(size=shape).astype(np.float32)
    # a network with a space's id as input may output NaN for any other space
    finite = all(tensor.dtype != "INT64" for tensor in stage.inputs)
    _run(session, stage, inputs, finite=finite)


_TESTS: Final[dict[str, Callable[[OnnxSession], None]]] = {
    contract.DETECTION.name: _detection,
    contract.EMBEDDING_STAGE.name: _embedding,
    contract.SCORING.name: _scoring,
}


def _run(
    session: OnnxSession, stage: contract.Stage, inputs: Arrays, *, finite: bool = True
) -> Arrays:
    names = [tensor.name for tensor in stage.outputs]
    answer = session.run([Call(inputs, names)])[0]
    if isinstance(answer, Exception):
        raise SelfTestError(f"it fails when it runs: {answer}") from answer
    for name, array in answer.items():
        if len(array) != _BATCH:
            raise SelfTestError(f"{name} has {len(array)} rows for {_BATCH} inputs")
        if finite and not np.isfinite(array).all():
            raise SelfTestError(f"{name} holds values that are not finite")
    return answer
