"""What Triton did for all its callers: how much it answered, and how long requests waited."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from triton_python_backend.contract import ONNX_STAGES, PIPELINE, UNSCORED, stage_of

_ENSEMBLES: Final = frozenset({PIPELINE.name, UNSCORED.name})
_NETWORKS: Final = frozenset(stage.name for stage in ONNX_STAGES)
_NANOSECONDS: Final = 1e9


@dataclass(frozen=True, slots=True)
class WorkDone:
    """Sums since Triton started.

    images: that the ensembles answered or refused. queued_seconds, computed_seconds: of the
    requests to all networks, waiting for an instance and running on one.
    """

    images: int
    queued_seconds: float
    computed_seconds: float


def sum_up(statistics: Iterable[Any]) -> WorkDone:
    """Sum up Triton's statistics of all models, versions on trial included."""
    images = queued = computed = 0
    for model in statistics:
        stage, of = stage_of(model.name), model.inference_stats
        if stage in _ENSEMBLES:
            images += of.success.count + of.fail.count
        elif stage in _NETWORKS:
            queued += of.queue.ns
            computed += of.compute_infer.ns
    return WorkDone(images, queued / _NANOSECONDS, computed / _NANOSECONDS)
