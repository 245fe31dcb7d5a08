"""A stage's network runs once when it is loaded: one that answers nonsense never serves.

Triton keeps the version in service when a newer one fails to load. What loads, but fails, crashes
or answers NaN on real shapes, is therefore refused here, as part of loading.
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
"""The portrait of Eileen Collins (NASA, public domain), small, to show a detector a face."""

_BATCH: Final = 2
_DIMENSION: Final = 128
"""Of the embeddings that a head of any width is tried with."""


class SelfTestError(ValueError):
    """A network that loads and does not work; the text says what it did."""


def self_test(stage: str, session: OnnxSession) -> None:
    """Run the network of a stage once on inputs that it must answer.

    Models that are no ONNX stage of the contract pass.

    Raises:
        SelfTestError: if it fails, or answers with values that are no finite numbers, with
            embeddings that are not of length 1, or a detector finds no face in a portrait.
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
    # a network made by hand, without our mark, may be anything
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
    # without its space a head may answer NaN, as for any foreign one
    _run(session, contract.SCORING, inputs, finite=space_id is not None)


def _further(stage: contract.Stage, session: OnnxSession) -> None:
    """Run a stage that has no test of its own on noise of the shapes that it declares."""
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
    # a network that takes the id of a space may answer NaN for any foreign one
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
            raise SelfTestError(f"{name} holds values that are no finite numbers")
    return answer
