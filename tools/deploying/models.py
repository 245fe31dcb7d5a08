"""The models of a release: which versions lie in the repository, and going back to them."""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.settings import PREFIX
from tools.deploying.commands import Log, carry_out
from tools.deploying.errors import DeployError, EngineError
from tools.errors import LifecycleError
from tools.registry.activation import go_to, opened
from tools.registry.journal import Action
from tools.registry.startup_check import end_trial
from tools.registry.version_check import Check, check_digest, check_version
from tools.registry.version_store import STAGE_NAMES, VersionStore
from tools.serving.weights import missing_weights

_VERIFY_SECONDS: Final = 1800.0


@dataclass(frozen=True, slots=True)
class ServedVersion:
    """The version of a stage in service. sha256: of its network; None without a `model.json`."""

    version: int
    sha256: str | None


def verify(repository: Path, home: Path, *, log: Log) -> Mapping[str, ServedVersion]:
    """Import missing weights, check the digests of all, run each once; return what serves.

    It is a process of its own because the checks load onnxruntime and run the networks.

    Raises:
        DeployError: weights are missing, changed or do not work.

    """
    given = {f"{PREFIX}HOME": str(home), f"{PREFIX}MODEL_REPOSITORY": str(repository)}
    command = [sys.executable, "-m", "tools.serving.weights"]
    environment = {**os.environ, **given}
    try:
        carry_out(command, log=log, limit_seconds=_VERIFY_SECONDS, environment=environment)
    except EngineError as error:
        raise DeployError(f"the models in {repository}: {_reason(error)}") from error
    return in_service(repository, home)


def describe_verification(repository: Path | None) -> str:
    """Say what `verify` would do; None: no service mounts a folder of models."""
    if repository is None:
        return "no service mounts a folder of models: they would not be checked"
    if not repository.is_dir():
        return f"would fail: {repository} is not a folder"
    missing = missing_weights(repository)
    imports = f"import weights for {', '.join(missing)}, " if missing else ""
    return f"would {imports}check and run every network in {repository}"


def in_service(repository: Path, home: Path) -> Mapping[str, ServedVersion]:
    """Read which version of each stage serves.

    Raises:
        DeployError: a stage has none, or one is not what its `model.json` says.

    """
    version_store = VersionStore(repository, home)
    found = {}
    for stage in STAGE_NAMES:
        version = version_store.newest(stage)
        if version is None:
            raise DeployError(f"{stage} has no version in {repository}")
        try:
            metadata = check_digest(version_store.placed(stage, version))
        except LifecycleError as error:
            raise DeployError(str(error)) from error
        found[stage] = ServedVersion(version, None if metadata is None else metadata.sha256)
    return found


def differences(
    repository: Path, home: Path, wanted: Mapping[str, ServedVersion]
) -> Mapping[str, ServedVersion]:
    """Return the stages whose version in service is not the one that a release had."""
    version_store = VersionStore(repository, home)
    return {
        stage: served
        for stage, served in wanted.items()
        if version_store.newest(stage) != served.version
    }


def restore(
    repository: Path,
    home: Path,
    wanted: Mapping[str, ServedVersion],
    *,
    report: Callable[[str], None],
    check: Check = check_version,
) -> bool:
    """Put the versions of a release into service; returns whether anything changed.

    Versions above them are taken out and kept. A trial under way ends.

    Raises:
        DeployError: a version is gone, or its file is not the one that the release had.

    """
    if not wanted:
        return False
    version_store = VersionStore(repository, home)
    changed = differences(repository, home, wanted)
    try:
        if changed:
            end_trial(version_store, reason="a deployment was rolled back", report=report)
        for stage, served in changed.items():
            with opened(version_store):
                change = go_to(version_store, Action.ROLLBACK, stage, served.version, check=check)
            report(f"{stage}: version {served.version} serves again instead of {change.before}")
    except (LifecycleError, OSError) as error:
        raise DeployError(f"the models cannot be put back: {error}") from error
    found = in_service(repository, home)
    for stage, served in wanted.items():
        if served.sha256 is not None and found[stage].sha256 != served.sha256:
            raise DeployError(
                f"{stage} {served.version} is not the network that the release had: put back the "
                f"one with the SHA-256 {served.sha256}"
            )
    return bool(changed)


def _reason(error: EngineError) -> str:
    return str(error).partition("ended with status 1: ")[2] or str(error)
