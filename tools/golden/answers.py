"""What a network of a stage answers to the golden inputs, in a form that can be kept."""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson

from tools.golden import inputs
from tools.importing.dry_run import Arrays, Trial
from triton_python_backend import contract
from triton_python_backend.contract import format_id, parse_id
from triton_python_backend.decoding import Picture
from triton_python_backend.preprocess import make_frame

EXPECTED: Final = Path(__file__).with_name("expected.json")
Floats = npt.NDArray[np.float32]
_ALIGNED_ROW: Final = 14


@dataclass(frozen=True, slots=True)
class Answer:
    """Identity of a network and its answer.

    values: embeddings [16,D]; scores [8]; or the portrait's face [14] (box, landmarks, image
    pixels), without rows where no face is found.
    """

    id: str
    values: Floats


GOLDEN_STAGES: Final = (contract.DETECTION, contract.EMBEDDING_STAGE, contract.SCORING)
"""The stages that have golden inputs."""


def answer(stage: str, graph: bytes, path: Path, *, space: str | None, width: int | None) -> Answer:
    """Run a stage's graph on the golden inputs.

    Args:
        stage: which.
        graph: the ONNX file.
        path: named in errors.
        space: of a scoring head, the space it was made for.
        width: of a scoring head, the width of that space's embeddings.

    Raises:
        WeightsError: if it does not run.
    """
    trial = Trial(graph, path)
    if stage == contract.DETECTION.name:
        return _detect(trial)
    if stage == contract.EMBEDDING_STAGE.name:
        found = _run(trial, {contract.CROPS: inputs.crops()}, contract.EMBEDDING_STAGE)
        return Answer(_id(found[contract.SPACE]), found[contract.EMBEDDING])
    vectors = inputs.embeddings(width or 128)
    spaces = np.full((len(vectors), 1), parse_id(space) if space else 0, np.int64)
    given: Arrays = {contract.EMBEDDING: vectors, contract.SPACE: spaces}
    found = _run(trial, given, contract.SCORING)
    return Answer(_id(found[contract.HEAD]), found[contract.SCORE][:, 0])


def _detect(trial: Trial) -> Answer:
    frame, letterbox = make_frame(Picture.whole(inputs.portrait()))
    found = _run(trial, {contract.CANVAS: frame[None]}, contract.DETECTION)
    identity = _id(found[contract.DETECTOR])
    if not found[contract.CONFIDENCE][0, 0] > 0:
        return Answer(identity, np.zeros((0, _ALIGNED_ROW), np.float32))
    box = letterbox.to_image(found[contract.BOXES][0, 0].reshape(2, 2))
    points = letterbox.to_image(found[contract.LANDMARKS][0, 0])
    return Answer(identity, np.concatenate([box.ravel(), points.ravel()]))


def _run(trial: Trial, given: Arrays, stage: contract.Stage) -> dict[str, Any]:
    return dict(trial.run(given, [tensor.name for tensor in stage.outputs]))


def _id(ids: npt.NDArray[Any]) -> str:
    return format_id(int(ids.reshape(-1)[0]))


# Kept answers ------------------------------------------------------------------------------


def expected(stage: str, identity: str, *, path: Path = EXPECTED) -> Floats | None:
    """What the network of this id answered when it was recorded; None if it never was."""
    entry = orjson.loads(path.read_bytes()).get(stage, {}).get(identity)
    if entry is None:
        return None
    flat = np.frombuffer(base64.b64decode(entry["float16"]), "<f2").astype(np.float32)
    return flat.reshape(entry["shape"])


def record(stage: str, found: Answer, *, source: str, path: Path = EXPECTED) -> None:
    """Keep an answer, over an earlier one of the same id."""
    known = orjson.loads(path.read_bytes()) if path.is_file() else {}
    known.setdefault(stage, {})[found.id] = {
        "source": source,
        "shape": list(found.values.shape),
        "float16": base64.b64encode(found.values.astype("<f2").tobytes()).decode(),
    }
    options = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE
    path.write_bytes(orjson.dumps(known, option=options))


Expected = Callable[[str, str], Floats | None]
"""Looks up a kept answer by stage and id."""
