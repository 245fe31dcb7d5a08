"""The folders by which Triton serves a version on trial.

`face_embedding_candidate/2/` holds a copy of the version, `face_pipeline_candidate/` and
`face_pipeline_unscored_candidate/` ensembles that are those in service but for this stage, and in
their configuration the plan of the trial. The stage and the ensembles in service are not touched.
A folder without its `config.pbtxt`, which is written last and removed first, is what a crash left.
"""

import shutil
from pathlib import Path
from typing import Final

from google.protobuf import text_format
from pydantic import ValidationError
from tritonclient.grpc import model_config_pb2

from gateway.durable_files import sync_path, write_synced
from gateway.rollout.plan import Plan
from tools.errors import LifecycleError
from tools.registry.repository import CONFIG_FILE
from tools.registry.version_store import STAGE_NAMES, VersionStore
from triton_python_backend.contract import CANDIDATE_PARAMETER, PIPELINE, UNSCORED, candidate_of

_ENSEMBLES: Final = (UNSCORED.name, PIPELINE.name)
_PIPELINE: Final = candidate_of(PIPELINE.name)
_VERSION_OF_PIPELINE: Final = "1"
_NEW_CONFIG: Final = ".config.new"
_NAMES: Final = (
    *(candidate_of(ensemble) for ensemble in reversed(_ENSEMBLES)),
    *(candidate_of(stage) for stage in STAGE_NAMES),
)


def read_plan(version_store: VersionStore) -> Plan | None:
    """Read the plan of the trial under way; None if there is none."""
    path = version_store.repository / _PIPELINE / CONFIG_FILE
    try:
        parameters = _read(path).parameters
    except FileNotFoundError:
        return None
    try:
        return Plan.model_validate_json(parameters[CANDIDATE_PARAMETER].string_value)
    except ValidationError as error:
        raise LifecycleError(f"{path} holds no plan of a trial: {error}") from error


def weights_folder(version_store: VersionStore, plan: Plan) -> Path:
    """Folder of the version as Triton tries it."""
    return version_store.repository / candidate_of(plan.stage) / str(plan.version)


def write(version_store: VersionStore, plan: Plan, source: Path) -> None:
    """Have Triton try the version in `source`; the trial is on when this returns."""
    _write_stage(version_store, plan, source)
    write_plan(version_store, plan)


def write_plan(version_store: VersionStore, plan: Plan) -> None:
    """Write the ensembles of a trial, or write them anew with another plan."""
    # the one that the plan is read from comes last
    for ensemble in _ENSEMBLES:
        config = _read(version_store.repository / ensemble / CONFIG_FILE)
        config.name = candidate_of(ensemble)
        for step in config.ensemble_scheduling.step:
            if step.model_name == plan.stage:
                step.model_name = candidate_of(plan.stage)
        config.parameters[CANDIDATE_PARAMETER].string_value = plan.model_dump_json()
        folder = version_store.repository / config.name
        (folder / _VERSION_OF_PIPELINE).mkdir(parents=True, exist_ok=True)
        _place_config(folder, config)


def remove(version_store: VersionStore) -> None:
    """End whatever is tried, and clear what a crash has left of it. Requests in it are answered."""
    for name in _NAMES:
        folder = version_store.repository / name
        (folder / CONFIG_FILE).unlink(missing_ok=True)
        if folder.exists():
            shutil.rmtree(folder)


def is_clear(version_store: VersionStore) -> bool:
    """Whether no folder of a trial exists."""
    return not any((version_store.repository / name).exists() for name in _NAMES)


def _write_stage(version_store: VersionStore, plan: Plan, source: Path) -> None:
    folder = version_store.repository / candidate_of(plan.stage)
    # a copy: a second link would change the time of the file, for which Triton loads the first anew
    shutil.copytree(source, folder / str(plan.version))
    config = _read(version_store.repository / plan.stage / CONFIG_FILE)
    config.name = candidate_of(plan.stage)
    _place_config(folder, config)


def _read(path: Path) -> model_config_pb2.ModelConfig:
    return text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())


def _place_config(folder: Path, config: model_config_pb2.ModelConfig) -> None:
    new = folder / _NEW_CONFIG
    write_synced(new, text_format.MessageToString(config).encode())
    new.rename(folder / CONFIG_FILE)
    sync_path(folder)
