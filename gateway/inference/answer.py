"""From an ensemble's tensors to faces and the weights that made them."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy.typing as npt

from gateway.types import Face, Need, Quality
from triton_python_backend import contract
from triton_python_backend.contract import FaceOutput
from triton_python_backend.needs import face_outputs_for

Array = npt.NDArray[Any]
Answer = Mapping[str, Array]
"""Tensors by name, as in `contract.PIPELINE` or `contract.UNSCORED`."""

if tuple(Quality.__dataclass_fields__) != contract.QUALITY_COLUMNS:
    raise TypeError("Quality has other fields than QUALITY has columns")

_EVERYTHING: Final = ~Need.NOTHING_MORE


def read_faces(answer: Answer, need: Need = _EVERYTHING) -> tuple[Face, ...]:
    """Turn an ensemble's tensors into faces, with those wanted outputs that the answer holds.

    The row that an image without a face has in some outputs (see `contract.UNSCORED`) is dropped.
    """
    boxes = answer[contract.BOXES].tolist()
    landmarks = answer[contract.LANDMARKS].tolist()
    confidences = answer[contract.CONFIDENCE].tolist()
    qualities = answer[contract.QUALITY].tolist()
    columns = [
        (output.name, _values(output, answer[output.tensor]))
        for output in face_outputs_for(need)
        if output.tensor in answer
    ]
    return tuple(
        Face(
            box=tuple(boxes[row]),
            landmarks=tuple(map(tuple, landmarks[row])),
            confidence=confidences[row],
            quality=Quality(*qualities[row]),
            outputs={name: values[row] for name, values in columns},
        )
        for row in range(len(boxes))
    )


def read_beyond(answer: Answer) -> tuple[float, ...]:
    """Read the confidences of the faces that were found beyond those in BOXES."""
    return tuple(answer[contract.FOUND_CONFIDENCE][len(answer[contract.BOXES]) :].tolist())


def read_rotation(answer: Answer) -> int:
    """Read by how many degrees the picture was turned clockwise for the search."""
    return int(answer[contract.ROTATION].reshape(-1)[0])


def read_ids(answer: Answer) -> Iterator[tuple[str, int]]:
    """Read which weights answered: stage and id, for each stage whose id the answer holds."""
    for stage, tensor in contract.ID_OUTPUT.items():
        ids = answer.get(tensor)
        if ids is not None and ids.size:
            yield stage, int(ids.reshape(-1)[0])


def _values(output: FaceOutput, rows: Array) -> Any:
    """Split an output into values by row: Python floats, or arrays."""
    return rows.reshape(-1).tolist() if output.is_number else rows
