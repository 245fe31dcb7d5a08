"""The outputs and networks that a request needs, derived from `contract.py`."""

from collections.abc import Collection
from functools import cache
from typing import Final

from triton_python_backend.contract import (
    ALIGNMENT,
    BOXES,
    CONFIDENCE,
    DETECTION,
    DETECTOR,
    FACE_NETWORKS,
    FACE_OUTPUTS,
    FOUND_CONFIDENCE,
    ID_OUTPUT,
    LANDMARKS,
    ONNX_STAGES,
    PIPELINE,
    QUALITY,
    RESULTS,
    ROTATION,
    STAGES,
    UNSCORED,
    FaceOutput,
    Need,
    names_of,
)

_ALWAYS: Final = (
    BOXES,
    LANDMARKS,
    CONFIDENCE,
    QUALITY,
    DETECTOR,
    FOUND_CONFIDENCE,
    ROTATION,
)
INCLUDABLE: Final = tuple(
    output.name
    for stage in (*FACE_NETWORKS, ALIGNMENT)
    for output in stage.face_outputs
    if output.includable
)
"""Fields of a face that `?include=` may name."""


@cache
def networks_behind(stage: str) -> tuple[str, ...]:
    """Return the networks that a stage's results depend on, in the order of execution.

    The detector is always first, as crops depend on it; a network itself comes last.
    """
    (found,) = (each for each in STAGES if each.name == stage)
    names = {DETECTION.name}
    for each in ONNX_STAGES:
        if each.name == stage or (
            each is not DETECTION and names_of(each.outputs) & names_of(found.inputs)
        ):
            names |= {each.name} if each.name == stage else set(networks_behind(each.name))
    return tuple(each.name for each in ONNX_STAGES if each.name in names)


@cache
def face_outputs_for(need: Need) -> tuple[FaceOutput, ...]:
    """Return the outputs of each face beyond those of every face."""
    return tuple(output for output in FACE_OUTPUTS if output.need in need)


@cache
def networks_for(need: Need) -> tuple[str, ...]:
    """Return the networks that the results for a need depend on, in the order of execution."""
    wanted = face_outputs_for(need)
    names = {DETECTION.name}
    for stage in STAGES:
        if any(output in wanted for output in stage.face_outputs):
            names |= set(networks_behind(stage.name))
    return tuple(stage.name for stage in ONNX_STAGES if stage.name in names)


@cache
def outputs_for(need: Need) -> tuple[str, ...]:
    """Return the ensemble's outputs to request: values and the ids of the weights used."""
    values = [output.tensor for output in face_outputs_for(need)]
    ids = [ID_OUTPUT[stage] for stage in networks_for(need)]
    return tuple(dict.fromkeys([*_ALWAYS, *values, *ids]))


@cache
def ensemble_for(need: Need) -> str:
    """Return the ensemble that satisfies a need with the fewest stages."""
    names = set(outputs_for(need))
    passes_results = bool(names & names_of(RESULTS.outputs))
    return (UNSCORED if passes_results and names <= names_of(UNSCORED.outputs) else PIPELINE).name


def need_for(names: Collection[str]) -> Need:
    """Return the flags that select these fields of a face."""
    need = Need.NOTHING_MORE
    for output in FACE_OUTPUTS:
        if output.name in names:
            need |= output.need
    return need
