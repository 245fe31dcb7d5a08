"""Rank 2: the weights that Triton needs before its first start."""

from collections.abc import Callable
from pathlib import Path

from gateway.settings import Settings
from tools.serving.errors import ServingError
from triton_python_backend.contract import ONNX_STAGES


def missing_weights(repository: Path) -> list[str]:
    """Names of the ONNX stages that have no version with weights."""
    return [
        stage.name
        for stage in ONNX_STAGES
        if not any(
            model.parent.name.isdigit() for model in (repository / stage.name).glob("*/model.onnx")
        )
    ]


def ensure_weights(settings: Settings, *, report: Callable[[str], None]) -> None:
    """Import missing weights from the mirror; raise ServingError saying how to get some."""
    repository = settings.model_repository
    if not repository.is_dir():
        message = f"AURUM_MODEL_REPOSITORY names no folder: {repository}"
        raise ServingError(message)
    missing = missing_weights(repository)
    if not missing:
        return
    names = ", ".join(missing)
    message = (
        f"no weights for {names} in {repository}; set AURUM_MODEL_MIRROR to a folder with "
        "det_500m.onnx and mobilefacenet_arcface_128.onnx and start again, or import files of your "
        "own: aurum models import --detection FILE --embedding FILE --scoring FILE"
    )
    raise ServingError(message)
