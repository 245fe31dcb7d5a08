"""Stacks whose versions the tests change: one that caches, one that computes every answer."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from tests.support.serving import Served, aurum, make_settings, serving, wait_until, what_is_left
from tools.registry.candidate_folders import read_plan
from tools.registry.version_store import STAGE_NAMES, VersionStore


@contextmanager
def _served(real_repository: Path, folder: Path, **changes: object) -> Iterator[Served]:
    repository = folder / "model_repository"
    shutil.copytree(real_repository, repository)
    settings = make_settings(
        folder,
        repository,
        request_timeout_seconds=60.0,
        withdraw_after_seconds=4.0,
        **changes,
    )
    with serving(settings) as served:
        served.wait_for("Aurum is ready")
        yield served
    assert what_is_left(settings) == []


@pytest.fixture(scope="session")
def changed_stack(
    real_repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """Serve from a repository of its own, every answer computed, for the whole session."""
    with _served(real_repository, tmp_path_factory.mktemp("changed"), cache="off") as served:
        yield served


@pytest.fixture(scope="session")
def changed_cached_stack(
    real_repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """Serve from a repository of its own, answers cached, for the whole session."""
    with _served(real_repository, tmp_path_factory.mktemp("changed_cached")) as served:
        yield served


@pytest.fixture(scope="module")
def changed(changed_stack: Served) -> Iterator[Served]:
    """The stack that computes every answer; serves version 1 of each stage, and has no other."""
    yield changed_stack
    _put_back(changed_stack)


@pytest.fixture(scope="module")
def changed_cached(changed_cached_stack: Served) -> Iterator[Served]:
    """The stack that caches; serves version 1 of each stage, and has no other."""
    yield changed_cached_stack
    _put_back(changed_cached_stack)


def _put_back(served: Served) -> None:
    """End what is tried and remove every version but the first, also after a failed test."""
    version_store = VersionStore(served.repository, served.home)
    if read_plan(version_store) is not None:
        aurum(served.settings, "models", "abort")
    for stage in STAGE_NAMES:
        for version in version_store.placed_versions(stage)[1:]:
            version_store.take_out(stage, version)
        for version in version_store.kept_versions(stage):
            short = stage.removeprefix("face_")
            done = aurum(served.settings, "models", "remove", short, str(version))
            assert done.returncode == 0, done.stderr

    def is_as_before() -> bool:
        models = requests.get(f"{served.url}/api/ml/models", timeout=30)
        tried = requests.get(f"{served.url}/api/ml/models/candidate", timeout=30)
        # not yet, while a Triton that was killed starts again
        if not (models.ok and tried.ok) or tried.json()["trial"] is not None:
            return False
        return {stage["serving"] for stage in models.json()["stages"]} == {"1"}

    assert wait_until(is_as_before, timeout_seconds=60)
