"""The models of Triton that clients may use over KServe v2.

They are the two ensembles and the ONNX stages, whose tensors a client can make. Python stages run
within the ensembles only, and a version on trial is reached by canary routing only.
"""

from dataclasses import dataclass
from typing import Final

from gateway.errors import NotFoundError
from triton_python_backend import contract
from triton_python_backend.contract import Stage, Tensor

NOT_OFFERED: Final = (
    "the gateway offers metadata, readiness, configuration and inference of KServe v2; repository "
    "control, shared memory, statistics, trace and log settings are not offered"
)
"""Detail of the answer on all other paths below `/v2`."""
EXTENSIONS: Final = frozenset({"model_configuration", "binary_tensor_data", "parameters"})
"""Protocol extensions that the gateway offers; Triton has more."""
_STAGES: Final = (contract.PIPELINE, contract.UNSCORED, *contract.ONNX_STAGES)
_ALL_STATISTICS: Final = "stats"
"""Takes the place of a model in the path of the statistics of all models."""
_SCORES: Final = frozenset({contract.SCORE, contract.HEAD})


@dataclass(frozen=True, slots=True)
class PublicModel:
    """A model as clients see it: names, types and shapes as in `contract.Stage`."""

    name: str
    max_batch_size: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def public_models(*, scored: bool) -> tuple[PublicModel, ...]:
    """List the models; without `scored`, those without models and outputs of scores."""
    return tuple(
        _shown(stage, scored=scored)
        for stage in _STAGES
        if scored or stage.name != contract.SCORING.name
    )


def find_model(name: str, *, scored: bool) -> PublicModel:
    """Return a model by name; raises NotFoundError that lists the known ones."""
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
