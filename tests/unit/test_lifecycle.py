import os
import shutil
import threading
import time
from pathlib import Path

import pytest

from gateway.settings import CHECKOUT, Settings
from tests.support import tiny_sources
from tools.importing.importer import Order, import_weights
from tools.registry import changes
from tools.registry import version_store as shelves
from tools.registry import watch as watching
from tools.registry.dry_run import check_version
from tools.registry.errors import LifecycleError
from tools.registry.guard import withdraw_broken
from tools.registry.journal import Action, Entry, Journal, history
from tools.registry.triton_view import TritonState
from tools.registry.version_store import Shelf, stage_name
from tools.registry.view import view

STAGE = "face_embedding"


def nothing_wrong(stage: str, folder: Path) -> None:
    assert stage == STAGE
    assert folder.is_dir()


@pytest.fixture
def shelf(tmp_path) -> Shelf:
    repository = tmp_path / "repository"
    for stage in shelves.STAGE_NAMES:
        (repository / stage).mkdir(parents=True)
        shutil.copy(CHECKOUT / "model_repository" / stage / "config.pbtxt", repository / stage)
    return Shelf(repository, tmp_path / "home")


def drop(shelf: Shelf, version: int, content: bytes = b"") -> Path:
    """Put a folder there by hand."""
    folder = shelf.placed(STAGE, version)
    folder.mkdir()
    (folder / "model.onnx").write_bytes(content or b"network %d" % version)
    return folder


def bring(shelf: Shelf, version: int) -> None:
    """As an import does: the folder and its line in the journal."""
    before = shelf.newest(STAGE)
    drop(shelf, version)
    changes.note_import(shelf, STAGE, version, before=before)


def rollback(shelf: Shelf) -> tuple[int | None, int | None]:
    change = changes.rollback(shelf, STAGE, check=nothing_wrong)
    return change.before, change.after


def activate(shelf: Shelf, version: int | None) -> tuple[int | None, int | None]:
    change = changes.activate(shelf, STAGE, version, check=nothing_wrong)
    return change.before, change.after


def where(shelf: Shelf) -> tuple[list[int], list[int]]:
    return shelf.placed_versions(STAGE), shelf.kept_versions(STAGE)


def test_back_and_forth(shelf):
    bring(shelf, 1)
    bring(shelf, 2)
    assert rollback(shelf) == (2, 1)
    assert where(shelf) == ([1], [2])
    assert activate(shelf, None) == (1, 2)
    assert where(shelf) == ([1, 2], [])
    assert shelf.placed(STAGE, 2).joinpath("model.onnx").read_bytes() == b"network 2"


def test_rollback_returns_to_what_served_and_not_just_to_what_is_below(shelf):
    for version in (1, 2, 3):
        bring(shelf, version)
    assert activate(shelf, 1) == (3, 1)
    assert where(shelf) == ([1], [2, 3])
    # 3 served before 1 did; before 3 it was 2
    assert rollback(shelf) == (1, 3)
    assert rollback(shelf) == (3, 2)
    assert where(shelf) == ([1, 2], [3])


def test_repeated_rollbacks_go_further_back(shelf):
    for version in (1, 2, 3):
        bring(shelf, version)
    assert [rollback(shelf), rollback(shelf)] == [(3, 2), (2, 1)]
    with pytest.raises(LifecycleError, match="has only version 1; there is nothing to go back"):
        rollback(shelf)
    assert where(shelf) == ([1], [2, 3])


def test_versions_dropped_by_hand_are_known_by_their_number(shelf):
    drop(shelf, 1)
    drop(shelf, 7)
    assert rollback(shelf) == (7, 1)
    assert where(shelf) == ([1], [7])


def test_a_version_that_does_not_work_is_neither_activated_nor_returned_to(shelf):
    bring(shelf, 1)
    drop(shelf, 2)
    bring(shelf, 3)

    def check(stage: str, folder: Path) -> None:
        if folder.name == "2":
            raise LifecycleError(f"{folder} does not work")

    assert changes.rollback(shelf, STAGE, check=check).after == 1
    with pytest.raises(LifecycleError, match="2 does not work"):
        changes.activate(shelf, STAGE, 2, check=check)
    assert where(shelf) == ([1], [2, 3])


def test_a_kept_version_of_the_same_number_is_moved_aside_not_lost(shelf):
    bring(shelf, 1)
    drop(shelf, 2, b"first")
    rollback(shelf)
    drop(shelf, 2, b"second")
    rollback(shelf)
    kept = shelf.kept(STAGE, 2)
    assert (kept / "model.onnx").read_bytes() == b"second"
    assert (kept.with_name("2.replaced-1") / "model.onnx").read_bytes() == b"first"


def test_remove_spares_what_serves(shelf):
    bring(shelf, 1)
    bring(shelf, 2)
    with pytest.raises(LifecycleError, match="2 is in service; roll it back first"):
        changes.remove(shelf, STAGE, 2)
    changes.remove(shelf, STAGE, 1)
    assert where(shelf) == ([2], [])
    with pytest.raises(LifecycleError, match="there is nothing to go back"):
        rollback(shelf)
    with pytest.raises(LifecycleError, match="has no version 9"):
        changes.remove(shelf, STAGE, 9)


def test_the_only_version_is_not_withdrawn(shelf):
    bring(shelf, 1)
    with pytest.raises(LifecycleError, match="the only one there is: NaN"):
        changes.withdraw(shelf, STAGE, 1, reason="NaN")
    bring(shelf, 2)
    assert changes.withdraw(shelf, STAGE, 2, reason="NaN").after == 1
    kept = next(each for each in view(shelf, None) if each.version == 2)
    assert (kept.place, kept.note) == ("kept", "NaN")


@pytest.mark.parametrize("moved", [False, True], ids=["before the move", "after the move"])
def test_a_crash_is_closed_by_looking_at_what_serves(shelf, monkeypatch, moved):
    bring(shelf, 1)
    bring(shelf, 2)
    take_out = Shelf.take_out

    def crash(self: Shelf, stage: str, version: int) -> Path:
        if moved:
            take_out(self, stage, version)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Shelf, "take_out", crash)
        with pytest.raises(KeyboardInterrupt):
            rollback(shelf)
    assert [entry.action for entry in shelf.journal.unfinished()] == [Action.ROLLBACK]
    with changes.opened(shelf):
        assert shelf.journal.unfinished() == []
    assert shelf.journal.entries()[-1].phase == ("done" if moved else "undone")
    assert history(shelf.journal.entries(), STAGE) == ([] if moved else [1])
    assert shelf.newest(STAGE) == (1 if moved else 2)


def test_a_line_torn_by_a_crash_is_passed_over(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    first = Entry(Action.IMPORT, STAGE, 2, 1, 2)
    journal.append(first)
    with (tmp_path / "journal.jsonl").open("ab") as file:
        file.write(b'{"action": "roll')
    journal.append(Entry(Action.ROLLBACK, STAGE, 1, 2, 1))
    assert [entry.action for entry in journal.entries()] == [Action.IMPORT, Action.ROLLBACK]


def test_between_file_systems_a_copy_is_whole_before_it_is_seen(shelf, monkeypatch):
    bring(shelf, 1)
    bring(shelf, 2)
    rename = Path.rename

    def no_link(self: Path, target: Path) -> Path:
        if self.is_relative_to(shelf.repository) != Path(target).is_relative_to(shelf.repository):
            raise OSError(18, "Invalid cross-device link")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", no_link)
    assert rollback(shelf) == (2, 1)
    assert where(shelf) == ([1], [2])
    assert activate(shelf, 2) == (1, 2)
    assert (shelf.placed(STAGE, 2) / "model.onnx").read_bytes() == b"network 2"
    left = [path.name for path in shelf.repository.rglob(".*")]
    assert left == []


def test_a_second_change_waits_for_the_first(shelf, monkeypatch):
    bring(shelf, 1)
    bring(shelf, 2)
    monkeypatch.setattr(shelves, "_LOCK_SECONDS", 0.3)
    with shelf.locked():
        with pytest.raises(LifecycleError, match=f"process {os.getpid()} changes models now"):
            rollback(shelf)
        monkeypatch.setattr(shelves, "_LOCK_SECONDS", 30)
        second = threading.Thread(target=rollback, args=[shelf])
        second.start()
        second.join(0.3)
        assert second.is_alive()
        assert shelf.newest(STAGE) == 2
    second.join(10)
    assert shelf.newest(STAGE) == 1


def test_what_triton_refuses_is_shown_with_its_reason(shelf):
    drop(shelf, 1)
    drop(shelf, 2)
    states = {(STAGE, 1): TritonState("READY", ""), (STAGE, 2): TritonState("UNAVAILABLE", "bad")}
    shown = {each.version: each for each in view(shelf, states)}
    assert shown[1].place == "serving"
    assert shown[2].place == "refused"
    assert shown[2].state.reason == "bad"
    assert shown[1].digest == "no sidecar"


def test_stages_go_by_short_names():
    assert stage_name("embedding") == stage_name("face_embedding") == STAGE
    with pytest.raises(LifecycleError, match="'pipeline' is no stage"):
        stage_name("pipeline")


def test_a_real_version_passes_and_a_changed_byte_does_not(shelf, tmp_path):
    network = tiny_sources.save_embedder(tmp_path / "net.onnx")
    import_weights(Order(embedding=network), shelf.repository)
    folder = shelf.placed(STAGE, 1)
    check_version(STAGE, folder)
    data = bytearray((folder / "model.onnx").read_bytes())
    data[-1] ^= 1
    (folder / "model.onnx").write_bytes(data)
    with pytest.raises(LifecycleError, match="its sidecar says"):
        check_version(STAGE, folder)
    (folder / "model.json").unlink()
    (folder / "model.onnx").write_bytes(b"garbage")
    with pytest.raises(LifecycleError, match="does not work"):
        check_version(STAGE, folder)


def test_numbers_of_kept_versions_are_not_given_again(shelf, tmp_path):
    network = tiny_sources.save_embedder(tmp_path / "net.onnx")
    bring(shelf, 1)
    bring(shelf, 2)
    rollback(shelf)
    cards = import_weights(Order(embedding=network), shelf.repository, reserved=shelf.kept_versions)
    assert cards[0].version == 3


def test_before_a_start_broken_newest_versions_make_way(shelf, tmp_path):
    network = tiny_sources.save_embedder(tmp_path / "net.onnx")
    import_weights(Order(embedding=network), shelf.repository)
    drop(shelf, 2, b"garbage")
    (shelf.placed(STAGE, 3)).mkdir()
    told: list[str] = []
    withdraw_broken(shelf, report=told.append)
    assert where(shelf) == ([1], [2, 3])
    assert [line.split(":")[0] for line in told] == [
        f"{STAGE} 3 is taken out, 1 serves",
        f"{STAGE} 2 is taken out, 1 serves",
    ]
    assert [entry.action for entry in shelf.journal.entries()] == [Action.WITHDRAW] * 4


def test_before_a_start_the_only_version_stays_though_broken(shelf):
    drop(shelf, 1, b"garbage")
    withdraw_broken(shelf, report=pytest.fail)
    assert where(shelf) == ([1], [])


class Clock:
    def __init__(self, monkeypatch) -> None:
        self.now = time.monotonic()
        monkeypatch.setattr(watching.time, "monotonic", lambda: self.now)


@pytest.fixture
def watched(shelf, monkeypatch):
    """A watch whose Triton and clock are scripted; files count as written long ago."""
    drop(shelf, 1)
    drop(shelf, 2, b"garbage")
    watch = watching.Watch(Settings(), shelf, report=lambda _: None)
    clock = Clock(monkeypatch)
    monkeypatch.setattr(watching, "_last_written", lambda _: 0.0)

    def look(state: str, *, after_seconds: float = 0) -> list[int]:
        clock.now += after_seconds
        states = {(STAGE, 2): TritonState(state, "bad"), (STAGE, 1): TritonState("READY", "")}
        monkeypatch.setattr(watching, "read_states", lambda _: states)
        watch.look()
        return shelf.placed_versions(STAGE)

    return look


def test_what_fails_for_long_is_taken_out(watched, shelf):
    assert watched("UNAVAILABLE") == [1, 2]
    assert watched("LOADING", after_seconds=6) == [1, 2]
    assert watched("UNAVAILABLE", after_seconds=6) == [1]
    assert shelf.journal.entries()[-1].reason == "bad"


def test_what_works_in_the_end_stays(watched):
    assert watched("UNAVAILABLE") == [1, 2]
    assert watched("READY", after_seconds=6) == [1, 2]
    assert watched("UNAVAILABLE", after_seconds=6) == [1, 2]


def test_a_folder_that_is_still_written_is_left_alone(watched, monkeypatch):
    monkeypatch.setattr(watching, "_last_written", lambda _: time.time())
    assert watched("UNAVAILABLE") == [1, 2]
    assert watched("UNAVAILABLE", after_seconds=60) == [1, 2]
