"""The light reader of a trial sees what the one with protobuf wrote."""

import shutil

import pytest

from gateway.rollout.plan import Plan
from gateway.settings import CHECKOUT
from tools.errors import LifecycleError
from tools.registry import candidate_folders
from tools.registry.running_trial import RunningTrial, read_running_trial
from tools.registry.version_store import VersionStore
from triton_python_backend.contract import PIPELINE, UNSCORED, candidate_of

PLAN = Plan(
    trial='quoted "id" \\ ü',
    stage="face_embedding",
    version=7,
    mode="canary",
    share=0.1,
    since="2026-01-01T00:00:00Z",
)


@pytest.fixture
def repository(tmp_path):
    for name in (PIPELINE.name, UNSCORED.name):
        (tmp_path / name).mkdir()
        shutil.copy(CHECKOUT / "model_repository" / name / "config.pbtxt", tmp_path / name)
    return tmp_path


def test_no_trial_is_none(repository):
    assert read_running_trial(repository) is None


def test_what_was_written_is_read(repository, tmp_path):
    version_store = VersionStore(repository, tmp_path / "home")
    candidate_folders.write_plan(version_store, PLAN)
    assert candidate_folders.read_plan(version_store) == PLAN
    assert read_running_trial(repository) == RunningTrial(PLAN.trial, PLAN.stage, PLAN.version)


@pytest.mark.parametrize(
    "text", ["", 'parameters { key: "aurum_candidate" value { string_value: "no" } }']
)
def test_a_config_without_a_plan_is_an_error(repository, text):
    folder = repository / candidate_of(PIPELINE.name)
    folder.mkdir()
    (folder / "config.pbtxt").write_text(text)
    with pytest.raises(LifecycleError, match="holds no plan of a trial"):
        read_running_trial(repository)
