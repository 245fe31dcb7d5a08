"""A version under trial: begun, promoted, aborted, interrupted by a crash."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from gateway.settings import CHECKOUT, Settings
from tools.commands.models.trial import terms_of
from tools.errors import LifecycleError
from tools.registry import activation, candidate_folders, candidates
from tools.registry import rejection_watch as watching
from tools.registry.candidates import Terms
from tools.registry.journal import Action
from tools.registry.startup_check import end_trial, withdraw_broken
from tools.registry.triton_status import TritonState
from tools.registry.version_status import view
from tools.registry.version_store import STAGE_NAMES, VersionStore
from triton_python_backend import contract

STAGE = "face_embedding"
TENTH = Terms("canary", 0.1)
SHADOW = Terms("shadow")


def passes(stage: str, folder: Path) -> None:
    assert (folder / "model.onnx").is_file()


@pytest.fixture
def version_store(tmp_path) -> VersionStore:
    """Version 1 of each stage serves; version 2 of the embedding is kept."""
    repository = tmp_path / "repository"
    for stage in (*STAGE_NAMES, contract.PIPELINE.name, contract.UNSCORED.name):
        (repository / stage).mkdir(parents=True)
        shutil.copy(CHECKOUT / "model_repository" / stage / "config.pbtxt", repository / stage)
    version_store = VersionStore(repository, tmp_path / "home")
    for stage in STAGE_NAMES:
        put(version_store.placed(stage, 1))
    put(version_store.kept(STAGE, 2))
    return version_store


def put(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"network " + folder.name.encode())
    return folder


def begin(version_store: VersionStore, version: int | None = None, terms: Terms = TENTH):
    return candidates.begin(version_store, STAGE, version, terms, check=passes)


def models(version_store: VersionStore) -> set[str]:
    return {path.name for path in version_store.repository.iterdir()} - {
        *STAGE_NAMES,
        contract.PIPELINE.name,
        contract.UNSCORED.name,
    }


def config(version_store: VersionStore, model: str) -> model_config_pb2.ModelConfig:
    text = (version_store.repository / model / "config.pbtxt").read_text()
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Return what Triton compares to see a change: size, and the later of the file's two times."""
    return {
        str(path): (path.stat().st_size, max(path.stat().st_mtime_ns, path.stat().st_ctime_ns))
        for path in folder.rglob("*")
    }


TRIED = {
    "face_embedding_candidate",
    "face_pipeline_candidate",
    "face_pipeline_unscored_candidate",
}


def test_a_trial_adds_its_models_and_changes_none(version_store):
    before = {stage: snapshot(version_store.repository / stage) for stage in STAGE_NAMES}
    plan = begin(version_store)
    assert models(version_store) == TRIED
    assert {stage: snapshot(version_store.repository / stage) for stage in STAGE_NAMES} == before
    tried = candidate_folders.weights_folder(version_store, plan) / "model.onnx"
    assert tried.read_bytes() == b"network 2"
    assert version_store.newest(STAGE) == 1
    assert candidate_folders.read_plan(version_store) == plan


@pytest.mark.parametrize("ensemble", ["face_pipeline", "face_pipeline_unscored"])
def test_the_ensemble_of_a_trial_differs_in_one_stage(version_store, ensemble):
    plan = begin(version_store)
    ours, theirs = config(version_store, ensemble), config(version_store, f"{ensemble}_candidate")
    assert theirs.name == f"{ensemble}_candidate"
    steps = [step.model_name for step in theirs.ensemble_scheduling.step]
    assert steps == [
        "face_embedding_candidate" if step.model_name == STAGE else step.model_name
        for step in ours.ensemble_scheduling.step
    ]
    parameter = theirs.parameters.pop(contract.CANDIDATE_PARAMETER).string_value
    assert type(plan).model_validate_json(parameter) == plan
    theirs.name = ours.name
    for step in theirs.ensemble_scheduling.step:
        step.model_name = contract.stage_of(step.model_name)
    assert theirs == ours
    stage, tried = config(version_store, STAGE), config(version_store, "face_embedding_candidate")
    tried.name = stage.name
    assert tried == stage


def test_a_trial_replaces_all_steps_of_the_detector(version_store):
    put(version_store.kept("face_detection", 2))
    candidates.begin(version_store, "face_detection", 2, TENTH, check=passes)
    ensemble = config(version_store, "face_pipeline_candidate").ensemble_scheduling
    steps = [step.model_name for step in ensemble.step]
    assert "face_detection_candidate" in steps
    assert "face_detection" not in steps


def test_an_aborted_trial_leaves_only_the_version(version_store):
    begin(version_store)
    assert candidates.abort(version_store).version == 2
    assert models(version_store) == set()
    assert (version_store.placed_versions(STAGE), version_store.kept_versions(STAGE)) == ([1], [2])
    assert [(e.action, e.phase) for e in version_store.journal.entries()] == [
        (Action.TRY, "begun"),
        (Action.TRY, "done"),
        (Action.ABORT, "begun"),
        (Action.ABORT, "done"),
    ]
    with pytest.raises(LifecycleError, match="no version is being tried"):
        candidates.abort(version_store)


def test_a_promoted_version_serves_and_rollback_returns_from_it(version_store):
    begin(version_store)
    change = candidates.promote(version_store, check=passes)
    assert (change.before, change.after) == (1, 2)
    assert version_store.newest(STAGE) == 2
    assert models(version_store), "the candidate answers its share until the version serves"
    candidates.end(version_store)
    assert models(version_store) == set()
    with pytest.raises(LifecycleError, match="no version is being tried"):
        candidates.promote(version_store, check=passes)
    back = activation.rollback(version_store, STAGE, check=passes)
    assert (back.before, back.after) == (2, 1)


def test_broken_versions_are_neither_tried_nor_promoted(version_store):
    def fails(stage: str, folder: Path) -> None:
        raise LifecycleError("it does not work")

    with pytest.raises(LifecycleError, match="does not work"):
        candidates.begin(version_store, STAGE, 2, TENTH, check=fails)
    assert models(version_store) == set()
    assert version_store.journal.entries() == []
    begin(version_store)
    with pytest.raises(LifecycleError, match="does not work"):
        candidates.promote(version_store, check=fails)
    assert version_store.newest(STAGE) == 1
    assert models(version_store)


def test_terms_may_change_but_no_second_version_is_tried(version_store):
    first = begin(version_store)
    second = begin(version_store, terms=SHADOW)
    assert (second.version, second.mode) == (2, "shadow")
    assert second.trial != first.trial
    assert candidate_folders.read_plan(version_store) == second
    put(version_store.kept(STAGE, 3))
    for stage, version in ((STAGE, 3), ("face_detection", 1)):
        with pytest.raises(LifecycleError, match="face_embedding 2 is being tried"):
            candidates.begin(version_store, stage, version, TENTH, check=passes)
    with pytest.raises(LifecycleError, match="face_embedding 2 is being tried"):
        candidates.abort(version_store, trial=first.trial)


def test_a_stage_does_not_change_during_its_trial(version_store):
    put(version_store.kept(STAGE, 3))
    begin(version_store, 2)
    for change in (
        lambda: activation.activate(version_store, STAGE, 3, check=passes),
        lambda: activation.rollback(version_store, STAGE, check=passes),
        lambda: activation.remove(version_store, STAGE, 2),
    ):
        with pytest.raises(LifecycleError, match="is being tried"):
            change()
    activation.remove(version_store, STAGE, 3)


def test_an_older_version_that_is_present_can_be_tried(version_store):
    activation.activate(version_store, STAGE, 2, check=passes)
    begin(version_store, 1)
    candidates.promote(version_store, check=passes)
    candidates.end(version_store)
    assert (version_store.placed_versions(STAGE), version_store.kept_versions(STAGE)) == ([1], [2])
    with pytest.raises(LifecycleError, match="in service already"):
        begin(version_store, 1)
    with pytest.raises(LifecycleError, match="has no version 9"):
        begin(version_store, 9)


class Crash(BaseException):
    """The process ends here."""


def crash_in(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def end(*_: object) -> None:
        raise Crash

    monkeypatch.setattr(candidate_folders, name, end)


CRASHES = {
    "before anything was written": "write",
    "between stage and ensemble": "write_plan",
    "while the stage was written": "_place_config",
}


@pytest.mark.parametrize("when", CRASHES)
def test_a_crash_at_the_beginning_leaves_no_trial(version_store, monkeypatch, when):
    with monkeypatch.context() as patched:
        crash_in(patched, CRASHES[when])
        with pytest.raises(Crash):
            begin(version_store)
    with activation.opened(version_store):
        assert models(version_store) == set()
    assert version_store.journal.entries()[-1].phase == "undone"
    begin(version_store)


def test_a_crash_between_the_ensembles_leaves_no_trial(version_store, monkeypatch):
    original: Callable[..., None] = candidate_folders._place_config
    placed = []

    def crash_at_the_last(folder: Path, config: model_config_pb2.ModelConfig) -> None:
        placed.append(config.name)
        if len(placed) == len(TRIED):
            raise Crash
        original(folder, config)

    with monkeypatch.context() as patched:
        patched.setattr(candidate_folders, "_place_config", crash_at_the_last)
        with pytest.raises(Crash):
            begin(version_store)
    assert set(placed) == TRIED
    with activation.opened(version_store):
        assert models(version_store) == set()


def test_a_trial_survives_a_crash(version_store, monkeypatch):
    def crash_after(*arguments: object) -> None:
        original(*arguments)
        raise Crash

    original: Callable[..., None] = candidate_folders.write_plan
    with monkeypatch.context() as patched:
        patched.setattr(candidate_folders, "write_plan", crash_after)
        with pytest.raises(Crash):
            begin(version_store)
    with activation.opened(version_store):
        assert models(version_store) == TRIED
    assert [e.phase for e in version_store.journal.entries()] == ["begun", "done"]


@pytest.mark.parametrize("left", ["all", "the stage"])
def test_an_abort_is_completed_after_a_crash(version_store, monkeypatch, left):
    begin(version_store)
    with monkeypatch.context() as patched:
        crash_in(patched, "remove")
        with pytest.raises(Crash):
            candidates.abort(version_store)
    if left == "the stage":
        (version_store.repository / "face_pipeline_candidate" / "config.pbtxt").unlink()
    with activation.opened(version_store):
        assert bool(models(version_store)) == (left == "all")
    phases = [e.phase for e in version_store.journal.entries() if e.action is Action.ABORT]
    assert phases == ["begun", "undone" if left == "all" else "done"]


def test_a_crash_after_promoting_ends_the_trial(version_store):
    begin(version_store)
    candidates.promote(version_store, check=passes)
    # the process ends before `end`; the next one completes it
    with activation.opened(version_store):
        assert models(version_store) == set()
    assert version_store.newest(STAGE) == 2


def test_a_full_disk_leaves_no_trial(version_store, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "somewhere")

    monkeypatch.setattr(candidate_folders.shutil, "copytree", full)
    with pytest.raises(LifecycleError, match="somewhere: No space left"):
        begin(version_store)
    assert models(version_store) == set()


def test_a_trial_that_no_longer_works_ends_at_the_next_start(version_store):
    begin(version_store)
    said: list[str] = []
    # these folders contain no network, so none of them would load
    withdraw_broken(version_store, report=said.append)
    assert models(version_store) == set()
    assert "face_embedding 2 is not tried any more" in said[0]
    entry = version_store.journal.entries()[-1]
    assert (entry.action, entry.phase) == (Action.ABORT, "done")
    assert "does not work" in entry.reason


def test_a_triton_that_died_ends_the_trial(version_store):
    said: list[str] = []
    end_trial(version_store, reason="Triton ended", report=said.append)
    assert said == []
    begin(version_store)
    end_trial(version_store, reason="Triton ended", report=said.append)
    assert said == ["face_embedding 2 is not tried any more: Triton ended"]


@pytest.fixture
def watch(version_store, monkeypatch):
    """Return a watch with a scripted Triton and gateway: `said` contains their reports."""
    said = {"state": TritonState("READY", ""), "stopped": "", "reports": []}

    def states(_: Settings):
        return {("face_embedding_candidate", 2): said["state"]}

    monkeypatch.setattr(watching, "read_states", states)
    monkeypatch.setattr(watching, "why_stopped", lambda *_: said["stopped"])
    watch = watching.VersionWatch(
        Settings(), version_store, patience_seconds=10, report=said["reports"].append
    )
    return watch, said


def test_a_candidate_that_triton_refuses_is_given_up_after_a_while(
    version_store, watch, monkeypatch
):
    watch, said = watch
    begin(version_store)
    watch.look()
    said["state"] = TritonState("UNAVAILABLE", "INVALID_PROTOBUF")
    watch.look()
    assert models(version_store)
    clock = watching.time.monotonic
    monkeypatch.setattr(watching.time, "monotonic", lambda: clock() + 11)
    watch.look()
    assert models(version_store) == set()
    assert said["reports"] == ["face_embedding 2 is not tried any more: INVALID_PROTOBUF"]
    shown = next(
        each for each in view(version_store, None) if (each.stage, each.version) == (STAGE, 2)
    )
    assert (shown.place, shown.note) == ("kept", "INVALID_PROTOBUF")


def test_a_trial_that_the_gateway_stopped_is_ended(version_store, watch):
    watch, said = watch
    begin(version_store)
    watch.look()
    assert [v.place for v in view(version_store, None) if v.stage == STAGE] == ["serving", "tried"]
    said["stopped"] = "3 failures in a row: NaN"
    watch.look()
    assert models(version_store) == set()
    assert said["reports"] == ["face_embedding 2 is not tried any more: 3 failures in a row: NaN"]


@pytest.mark.parametrize(
    ("text", "share"), [("10%", 0.1), ("0.5 %", 0.005), ("100%", 1.0), ("12.5%", 0.125)]
)
def test_a_share_is_written_in_percent(text, share):
    assert terms_of(text, shadow=False, by="tenant") == Terms("canary", share, "tenant")


@pytest.mark.parametrize("text", ["10", "0.1", "0%", "101%", "-5%", "all", ""])
def test_an_invalid_share_is_refused(text):
    with pytest.raises(LifecycleError, match="is no share"):
        terms_of(text, shadow=False, by="request")


def test_options_that_contradict_each_other_are_refused():
    assert terms_of(None, shadow=False, by="request") is None
    assert terms_of(None, shadow=True, by="request") == SHADOW
    with pytest.raises(LifecycleError, match="choose one"):
        terms_of("10%", shadow=True, by="request")
    with pytest.raises(LifecycleError, match="give --canary"):
        terms_of(None, shadow=True, by="tenant")
