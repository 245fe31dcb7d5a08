"""Rank 2: the weights that Triton needs before its first start."""

from collections.abc import Callable
from pathlib import Path

from gateway.errors import ConfigurationError
from gateway.settings import Settings
from tools.importing.mirror import STARTER_HEAD, import_missing
from tools.serving.errors import ServingError
from triton_python_backend.contract import DETECTION, EMBEDDING_STAGE, ONNX_STAGES, SCORING

_OPTION = {DETECTION.name: "detection", EMBEDDING_STAGE.name: "embedding", SCORING.name: "scoring"}


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
    try:
        import_missing(repository, settings.model_mirror, head=STARTER_HEAD, progress=report)
    except ConfigurationError as error:
        raise ServingError(str(error)) from error
    missing = missing_weights(repository)
    if missing:
        message = (
            f"no weights for {', '.join(missing)} in {repository}; import some: "
            f"aurum models import {' '.join(f'--{_OPTION[name]} FILE' for name in missing)}"
        )
        raise ServingError(message)
