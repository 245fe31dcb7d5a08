"""A version on trial beside the one in service: begun, promoted, aborted; what a crash leaves."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from gateway.settings import CHECKOUT, Settings
from tools.commands.models.trial import terms_of
from tools.registry import candidate_folders, candidates, changes
from tools.registry import watch as watching
from tools.registry.candidates import Terms
from tools.registry.errors import LifecycleError
from tools.registry.guard import end_trial, withdraw_broken
from tools.registry.journal import Action
from tools.registry.triton_view import TritonState
from tools.registry.version_store import STAGE_NAMES, Shelf
from tools.registry.view import view
from triton_python_backend import contract

STAGE = "face_embedding"
TENTH = Terms("canary", 0.1)
SHADOW = Terms("shadow")


def passes(stage: str, folder: Path) -> None:
    assert (folder / "model.onnx").is_file()


@pytest.fixture
def shelf(tmp_path) -> Shelf:
    """Version 1 serves in each stage; 2 of the embedding is kept."""
    repository = tmp_path / "repository"
    for stage in (*STAGE_NAMES, contract.PIPELINE.name, contract.UNSCORED.name):
        (repository / stage).mkdir(parents=True)
        shutil.copy(CHECKOUT / "model_repository" / stage / "config.pbtxt", repository / stage)
    shelf = Shelf(repository, tmp_path / "home")
    for stage in STAGE_NAMES:
        put(shelf.placed(stage, 1))
    put(shelf.kept(STAGE, 2))
    return shelf


def put(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"network " + folder.name.encode())
    return folder


def begin(shelf: Shelf, version: int | None = None, terms: Terms = TENTH):
    return candidates.begin(shelf, STAGE, version, terms, check=passes)


def models(shelf: Shelf) -> set[str]:
    return {path.name for path in shelf.repository.iterdir()} - {
        *STAGE_NAMES,
        contract.PIPELINE.name,
        contract.UNSCORED.name,
    }


def config(shelf: Shelf, model: str) -> model_config_pb2.ModelConfig:
    text = (shelf.repository / model / "config.pbtxt").read_text()
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """What Triton looks at to see a change: size, and the later of the two times of a file."""
    return {
        str(path): (path.stat().st_size, max(path.stat().st_mtime_ns, path.stat().st_ctime_ns))
        for path in folder.rglob("*")
    }


TRIED = {
    "face_embedding_candidate",
    "face_pipeline_candidate",
    "face_pipeline_unscored_candidate",
}


def test_a_trial_adds_its_models_and_touches_none(shelf):
    before = {stage: snapshot(shelf.repository / stage) for stage in STAGE_NAMES}
    plan = begin(shelf)
    assert models(shelf) == TRIED
    assert {stage: snapshot(shelf.repository / stage) for stage in STAGE_NAMES} == before
    tried = candidate_folders.weights_folder(shelf, plan) / "model.onnx"
    assert tried.read_bytes() == b"network 2"
    assert shelf.newest(STAGE) == 1
    assert candidate_folders.read_plan(shelf) == plan


@pytest.mark.parametrize("ensemble", ["face_pipeline", "face_pipeline_unscored"])
def test_the_ensemble_of_a_trial_is_the_other_but_for_one_stage(shelf, ensemble):
    plan = begin(shelf)
    ours, theirs = config(shelf, ensemble), config(shelf, f"{ensemble}_candidate")
    assert theirs.name == f"{ensemble}_candidate"
    steps = [step.model_name for step in theirs.ensemble_scheduling.step]
    assert steps == [
        "face_embedding_candidate" if step.model_name == STAGE else step.model_name
        for step in ours.ensemble_scheduling.step
    ]
    told = theirs.parameters.pop(contract.CANDIDATE_PARAMETER).string_value
    assert type(plan).model_validate_json(told) == plan
    theirs.name = ours.name
    for step in theirs.ensemble_scheduling.step:
        step.model_name = contract.stage_of(step.model_name)
    assert theirs == ours
    stage, tried = config(shelf, STAGE), config(shelf, "face_embedding_candidate")
    tried.name = stage.name
    assert tried == stage


def test_all_steps_of_the_detector_are_tried(shelf):
    put(shelf.kept("face_detection", 2))
    candidates.begin(shelf, "face_detection", 2, TENTH, check=passes)
    ensemble = config(shelf, "face_pipeline_candidate").ensemble_scheduling
    steps = [step.model_name for step in ensemble.step]
    assert "face_detection_candidate" in steps
    assert "face_detection" not in steps


def test_an_aborted_trial_leaves_nothing_but_the_version(shelf):
    begin(shelf)
    assert candidates.abort(shelf).version == 2
    assert models(shelf) == set()
    assert (shelf.placed_versions(STAGE), shelf.kept_versions(STAGE)) == ([1], [2])
    assert [(e.action, e.phase) for e in shelf.journal.entries()] == [
        (Action.TRY, "begun"),
        (Action.TRY, "done"),
        (Action.ABORT, "begun"),
        (Action.ABORT, "done"),
    ]
    with pytest.raises(LifecycleError, match="no version is being tried"):
        candidates.abort(shelf)


def test_a_promoted_version_serves_and_rollback_returns_from_it(shelf):
    begin(shelf)
    change = candidates.promote(shelf, check=passes)
    assert (change.before, change.after) == (1, 2)
    assert shelf.newest(STAGE) == 2
    assert models(shelf), "the share is answered until the version serves"
    candidates.end(shelf)
    assert models(shelf) == set()
    with pytest.raises(LifecycleError, match="no version is being tried"):
        candidates.promote(shelf, check=passes)
    back = changes.rollback(shelf, STAGE, check=passes)
    assert (back.before, back.after) == (2, 1)


def test_what_does_not_pass_is_neither_tried_nor_promoted(shelf):
    def fails(stage: str, folder: Path) -> None:
        raise LifecycleError("it does not work")

    with pytest.raises(LifecycleError, match="does not work"):
        candidates.begin(shelf, STAGE, 2, TENTH, check=fails)
    assert models(shelf) == set()
    assert shelf.journal.entries() == []
    begin(shelf)
    with pytest.raises(LifecycleError, match="does not work"):
        candidates.promote(shelf, check=fails)
    assert shelf.newest(STAGE) == 1
    assert models(shelf)


def test_terms_change_under_way_and_nothing_else_is_tried_beside(shelf):
    first = begin(shelf)
    second = begin(shelf, terms=SHADOW)
    assert (second.version, second.mode) == (2, "shadow")
    assert second.trial != first.trial
    assert candidate_folders.read_plan(shelf) == second
    put(shelf.kept(STAGE, 3))
    for stage, version in ((STAGE, 3), ("face_detection", 1)):
        with pytest.raises(LifecycleError, match="face_embedding 2 is being tried"):
            candidates.begin(shelf, stage, version, TENTH, check=passes)
    with pytest.raises(LifecycleError, match="face_embedding 2 is being tried"):
        candidates.abort(shelf, trial=first.trial)


def test_the_stage_stays_as_it_is_while_a_version_of_it_is_tried(shelf):
    put(shelf.kept(STAGE, 3))
    begin(shelf, 2)
    for change in (
        lambda: changes.activate(shelf, STAGE, 3, check=passes),
        lambda: changes.rollback(shelf, STAGE, check=passes),
        lambda: changes.remove(shelf, STAGE, 2),
    ):
        with pytest.raises(LifecycleError, match="is being tried"):
            change()
    changes.remove(shelf, STAGE, 3)


def test_an_older_version_that_is_present_can_be_tried(shelf):
    changes.activate(shelf, STAGE, 2, check=passes)
    begin(shelf, 1)
    candidates.promote(shelf, check=passes)
    candidates.end(shelf)
    assert (shelf.placed_versions(STAGE), shelf.kept_versions(STAGE)) == ([1], [2])
    with pytest.raises(LifecycleError, match="in service already"):
        begin(shelf, 1)
    with pytest.raises(LifecycleError, match="has no version 9"):
        begin(shelf, 9)


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
def test_a_crash_at_the_beginning_leaves_no_trial(shelf, monkeypatch, when):
    with monkeypatch.context() as patched:
        crash_in(patched, CRASHES[when])
        with pytest.raises(Crash):
            begin(shelf)
    with changes.opened(shelf):
        assert models(shelf) == set()
    assert shelf.journal.entries()[-1].phase == "undone"
    begin(shelf)


def test_a_crash_between_the_ensembles_leaves_no_trial(shelf, monkeypatch):
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
            begin(shelf)
    assert set(placed) == TRIED
    with changes.opened(shelf):
        assert models(shelf) == set()


def test_a_trial_that_was_on_when_the_crash_came_is_on(shelf, monkeypatch):
    def crash_after(*arguments: object) -> None:
        original(*arguments)
        raise Crash

    original: Callable[..., None] = candidate_folders.write_plan
    with monkeypatch.context() as patched:
        patched.setattr(candidate_folders, "write_plan", crash_after)
        with pytest.raises(Crash):
            begin(shelf)
    with changes.opened(shelf):
        assert models(shelf) == TRIED
    assert [e.phase for e in shelf.journal.entries()] == ["begun", "done"]


@pytest.mark.parametrize("left", ["all", "the stage"])
def test_a_crash_while_aborting_is_brought_to_an_end(shelf, monkeypatch, left):
    begin(shelf)
    with monkeypatch.context() as patched:
        crash_in(patched, "remove")
        with pytest.raises(Crash):
            candidates.abort(shelf)
    if left == "the stage":
        (shelf.repository / "face_pipeline_candidate" / "config.pbtxt").unlink()
    with changes.opened(shelf):
        assert bool(models(shelf)) == (left == "all")
    phases = [e.phase for e in shelf.journal.entries() if e.action is Action.ABORT]
    assert phases == ["begun", "undone" if left == "all" else "done"]


def test_a_crash_after_promoting_ends_the_trial(shelf):
    begin(shelf)
    candidates.promote(shelf, check=passes)
    # the process ends before `end`; whoever comes next
    with changes.opened(shelf):
        assert models(shelf) == set()
    assert shelf.newest(STAGE) == 2


def test_a_full_disk_leaves_no_trial(shelf, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "somewhere")

    monkeypatch.setattr(candidate_folders.shutil, "copytree", full)
    with pytest.raises(LifecycleError, match="somewhere: No space left"):
        begin(shelf)
    assert models(shelf) == set()


def test_a_trial_that_does_not_work_any_more_ends_at_the_next_start(shelf):
    begin(shelf)
    said: list[str] = []
    # no network at all lies in these folders: none of them would load
    withdraw_broken(shelf, report=said.append)
    assert models(shelf) == set()
    assert "face_embedding 2 is not tried any more" in said[0]
    entry = shelf.journal.entries()[-1]
    assert (entry.action, entry.phase) == (Action.ABORT, "done")
    assert "does not work" in entry.reason


def test_a_triton_that_died_ends_the_trial(shelf):
    said: list[str] = []
    end_trial(shelf, reason="Triton ended", report=said.append)
    assert said == []
    begin(shelf)
    end_trial(shelf, reason="Triton ended", report=said.append)
    assert said == ["face_embedding 2 is not tried any more: Triton ended"]


@pytest.fixture
def watch(shelf, monkeypatch):
    """A watch whose Triton and gateway say what `said` holds."""
    said = {"state": TritonState("READY", ""), "stopped": "", "reports": []}

    def states(_: Settings):
        return {("face_embedding_candidate", 2): said["state"]}

    monkeypatch.setattr(watching, "read_states", states)
    monkeypatch.setattr(watching, "why_stopped", lambda *_: said["stopped"])
    watch = watching.Watch(Settings(), shelf, report=said["reports"].append)
    return watch, said


def test_a_candidate_that_triton_refuses_is_given_time_and_then_up(shelf, watch, monkeypatch):
    watch, said = watch
    begin(shelf)
    watch.look()
    said["state"] = TritonState("UNAVAILABLE", "INVALID_PROTOBUF")
    watch.look()
    assert models(shelf)
    monkeypatch.setattr(watching, "_PATIENCE_SECONDS", 0.0)
    watch.look()
    assert models(shelf) == set()
    assert said["reports"] == ["face_embedding 2 is not tried any more: INVALID_PROTOBUF"]
    shown = next(each for each in view(shelf, None) if (each.stage, each.version) == (STAGE, 2))
    assert (shown.place, shown.note) == ("kept", "INVALID_PROTOBUF")


def test_a_candidate_that_the_gateway_stopped_asking_is_not_tried_any_more(shelf, watch):
    watch, said = watch
    begin(shelf)
    watch.look()
    assert [v.place for v in view(shelf, None) if v.stage == STAGE] == ["serving", "tried"]
    said["stopped"] = "3 failures in a row: NaN"
    watch.look()
    assert models(shelf) == set()
    assert said["reports"] == ["face_embedding 2 is not tried any more: 3 failures in a row: NaN"]


@pytest.mark.parametrize(
    ("text", "share"), [("10%", 0.1), ("0.5 %", 0.005), ("100%", 1.0), ("12.5%", 0.125)]
)
def test_a_share_is_written_in_percent(text, share):
    assert terms_of(text, shadow=False, by="tenant") == Terms("canary", share, "tenant")


@pytest.mark.parametrize("text", ["10", "0.1", "0%", "101%", "-5%", "all", ""])
def test_what_is_no_share_is_refused(text):
    with pytest.raises(LifecycleError, match="is no share"):
        terms_of(text, shadow=False, by="request")


def test_options_that_contradict_each_other_are_refused():
    assert terms_of(None, shadow=False, by="request") is None
    assert terms_of(None, shadow=True, by="request") == SHADOW
    with pytest.raises(LifecycleError, match="choose one"):
        terms_of("10%", shadow=True, by="request")
    with pytest.raises(LifecycleError, match="give --canary"):
        terms_of(None, shadow=True, by="tenant")
