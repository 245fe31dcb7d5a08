"""Import and check the weights before Triton starts.

    python -m tools.serving.weights

It imports missing weights, checks all and prints its progress; an error is one line on standard
error and exit status 1. It is a separate process because the checks load onnxruntime and run the
networks.
"""

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

from gateway.errors import ConfigurationError
from gateway.settings import Settings, load_settings
from tools.errors import LifecycleError, WeightsError
from tools.importing.importer import option_for
from tools.importing.mirror import STARTER_HEAD, import_missing
from tools.registry.repository import METADATA_FILE, MODEL_FILE, read_version_metadata, versions
from tools.registry.startup_check import withdraw_broken
from tools.registry.version_store import VersionStore
from tools.serving.errors import ServingError
from tools.serving.home import resolve
from triton_python_backend.contract import ONNX_STAGES


def check_digests(repository: Path) -> None:
    """Compare every network that has a `model.json` with the SHA-256 in it.

    A folder that was copied by hand without one is served unchecked.

    Raises:
        ServingError: naming the file that differs from its `model.json`.
    """
    for stage in ONNX_STAGES:
        for version in versions(repository / stage.name):
            folder = repository / stage.name / str(version)
            if not (folder / METADATA_FILE).is_file():
                continue
            try:
                expected = read_version_metadata(folder / METADATA_FILE).sha256
            except WeightsError as error:
                raise ServingError(str(error)) from error
            with (folder / MODEL_FILE).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != expected:
                message = (
                    f"{folder / MODEL_FILE} was changed: its SHA-256 is {found}, not "
                    f"the {expected} of {METADATA_FILE}; restore it, or import it as a new version"
                )
                raise ServingError(message)


def missing_weights(repository: Path) -> list[str]:
    """Return the names of the ONNX stages without weights."""
    return [
        stage.name
        for stage in ONNX_STAGES
        if not any(
            model.parent.name.isdigit() for model in (repository / stage.name).glob("*/model.onnx")
        )
    ]


def ensure_weights(settings: Settings, *, report: Callable[[str], None]) -> None:
    """Import missing weights from the mirror and check all weights.

    Raises:
        ServingError: with instructions to get weights, or the name of the changed file.
    """
    repository = settings.model_repository
    if not repository.is_dir():
        message = f"AURUM_MODEL_REPOSITORY is not a folder: {repository}"
        raise ServingError(message)
    try:
        import_missing(repository, settings.model_mirror, head=STARTER_HEAD, progress=report)
    except ConfigurationError as error:
        raise ServingError(str(error)) from error
    missing = missing_weights(repository)
    if missing:
        message = (
            f"no weights for {', '.join(missing)} in {repository}; import some: "
            f"aurum models import {' '.join(map(option_for, missing))}"
        )
        raise ServingError(message)
    try:
        withdraw_broken(VersionStore(repository, settings.home), report=report)
    except LifecycleError as error:
        raise ServingError(str(error)) from error
    check_digests(repository)


def main() -> int:
    """Import and check; returns the exit status."""
    try:
        ensure_weights(resolve(load_settings()), report=_say)
    except (ServingError, ConfigurationError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
