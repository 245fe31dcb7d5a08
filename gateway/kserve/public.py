"""The models of Triton that clients may ask for over KServe v2.

The two ensembles, and the ONNX stages, which take tensors that a client can make. The stages in
Python work within the ensembles only, and a version that is being tried has its own rules.
"""

from dataclasses import dataclass
from typing import Final

from gateway.errors import NotFoundError
from triton_python_backend import contract
from triton_python_backend.contract import Stage, Tensor

NOT_OFFERED: Final = (
    "of KServe v2 the gateway offers metadata, readiness, configuration and inference; repository "
    "control, shared memory, statistics, trace and log settings are not offered"
)
"""Said of all other paths below `/v2`."""
_STAGES: Final = (contract.PIPELINE, contract.UNSCORED, *contract.ONNX_STAGES)
_ALL_STATISTICS: Final = "stats"
"""What stands in the place of a model where Triton is asked for the statistics of all."""
_SCORES: Final = frozenset({contract.SCORE, contract.HEAD})


@dataclass(frozen=True, slots=True)
class PublicModel:
    """What a client sees of a model: names, types and shapes as in `contract.Stage`."""

    name: str
    max_batch_size: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def public_models(*, scored: bool) -> tuple[PublicModel, ...]:
    """List the models; `scored` False leaves out all that computes or shows scores."""
    return tuple(
        _shown(stage, scored=scored)
        for stage in _STAGES
        if scored or stage.name != contract.SCORING.name
    )


def find_model(name: str, *, scored: bool) -> PublicModel:
    """Give a model by name; raises NotFoundError naming those that there are."""
    if name == _ALL_STATISTICS:
        raise NotFoundError(NOT_OFFERED)
    models = public_models(scored=scored)
    for model in models:
        if model.name == name:
            return model
    names = ", ".join(model.name for model in models)
    raise NotFoundError(f"there is no model {name[:100]!r} here; models: {names}")


def _shown(stage: Stage, *, scored: bool) -> PublicModel:
    outputs = tuple(tensor for tensor in stage.outputs if scored or tensor.name not in _SCORES)
    return PublicModel(stage.name, stage.max_batch_size, stage.inputs, outputs)
