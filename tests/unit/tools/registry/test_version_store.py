import os
import shutil
import threading
import time
from pathlib import Path

import pytest

from gateway.settings import CHECKOUT, Settings
from tests.support import tiny_sources
from tools.errors import LifecycleError
from tools.importing.importer import Order, import_weights
from tools.registry import activation
from tools.registry import rejection_watch as watching
from tools.registry import version_store as store_module
from tools.registry.journal import Action, Entry, Journal, history
from tools.registry.startup_check import withdraw_broken
from tools.registry.triton_status import TritonState
from tools.registry.version_check import check_version
from tools.registry.version_status import view
from tools.registry.version_store import VersionStore, stage_name

STAGE = "face_embedding"


def nothing_wrong(stage: str, folder: Path) -> None:
    assert stage == STAGE
    assert folder.is_dir()


@pytest.fixture
def version_store(tmp_path) -> VersionStore:
    repository = tmp_path / "repository"
    for stage in store_module.STAGE_NAMES:
        (repository / stage).mkdir(parents=True)
        shutil.copy(CHECKOUT / "model_repository" / stage / "config.pbtxt", repository / stage)
    return VersionStore(repository, tmp_path / "home")


def drop(version_store: VersionStore, version: int, content: bytes = b"") -> Path:
    """Place a version folder by hand."""
    folder = version_store.placed(STAGE, version)
    folder.mkdir()
    (folder / "model.onnx").write_bytes(content or b"network %d" % version)
    return folder


def bring(version_store: VersionStore, version: int) -> None:
    """Place a version like an import: the folder and its line in the journal."""
    before = version_store.newest(STAGE)
    drop(version_store, version)
    activation.note_import(version_store, STAGE, version, before=before)


def rollback(version_store: VersionStore) -> tuple[int | None, int | None]:
    change = activation.rollback(version_store, STAGE, check=nothing_wrong)
    return change.before, change.after


def activate(version_store: VersionStore, version: int | None) -> tuple[int | None, int | None]:
    change = activation.activate(version_store, STAGE, version, check=nothing_wrong)
    return change.before, change.after


def where(version_store: VersionStore) -> tuple[list[int], list[int]]:
    return version_store.placed_versions(STAGE), version_store.kept_versions(STAGE)


def test_rollback_and_activate(version_store):
    bring(version_store, 1)
    bring(version_store, 2)
    assert rollback(version_store) == (2, 1)
    assert where(version_store) == ([1], [2])
    assert activate(version_store, None) == (1, 2)
    assert where(version_store) == ([1, 2], [])
    assert version_store.placed(STAGE, 2).joinpath("model.onnx").read_bytes() == b"network 2"


def test_rollback_returns_to_the_version_that_served_before(version_store):
    for version in (1, 2, 3):
        bring(version_store, version)
    assert activate(version_store, 1) == (3, 1)
    assert where(version_store) == ([1], [2, 3])
    # 3 served before 1 did; before 3 it was 2
    assert rollback(version_store) == (1, 3)
    assert rollback(version_store) == (3, 2)
    assert where(version_store) == ([1, 2], [3])


def test_repeated_rollbacks_go_further_back(version_store):
    for version in (1, 2, 3):
        bring(version_store, version)
    assert [rollback(version_store), rollback(version_store)] == [(3, 2), (2, 1)]
    with pytest.raises(LifecycleError, match="has only version 1; there is nothing to go back"):
        rollback(version_store)
    assert where(version_store) == ([1], [2, 3])


def test_versions_placed_by_hand_are_known_by_their_number(version_store):
    drop(version_store, 1)
    drop(version_store, 7)
    assert rollback(version_store) == (7, 1)
    assert where(version_store) == ([1], [7])


def test_a_broken_version_is_neither_activated_nor_rolled_back_to(version_store):
    bring(version_store, 1)
    drop(version_store, 2)
    bring(version_store, 3)

    def check(stage: str, folder: Path) -> None:
        if folder.name == "2":
            raise LifecycleError(f"{folder} does not work")

    assert activation.rollback(version_store, STAGE, check=check).after == 1
    with pytest.raises(LifecycleError, match="2 does not work"):
        activation.activate(version_store, STAGE, 2, check=check)
    assert where(version_store) == ([1], [2, 3])


def test_a_kept_version_of_the_same_number_is_moved_aside(version_store):
    bring(version_store, 1)
    drop(version_store, 2, b"first")
    rollback(version_store)
    drop(version_store, 2, b"second")
    rollback(version_store)
    kept = version_store.kept(STAGE, 2)
    assert (kept / "model.onnx").read_bytes() == b"second"
    assert (kept.with_name("2.replaced-1") / "model.onnx").read_bytes() == b"first"


def test_remove_refuses_the_version_in_service(version_store):
    bring(version_store, 1)
    bring(version_store, 2)
    with pytest.raises(LifecycleError, match="2 is in service; roll it back first"):
        activation.remove(version_store, STAGE, 2)
    activation.remove(version_store, STAGE, 1)
    assert where(version_store) == ([2], [])
    with pytest.raises(LifecycleError, match="there is nothing to go back"):
        rollback(version_store)
    with pytest.raises(LifecycleError, match="has no version 9"):
        activation.remove(version_store, STAGE, 9)


def test_the_only_version_is_not_withdrawn(version_store):
    bring(version_store, 1)
    with pytest.raises(LifecycleError, match="the only one there is: NaN"):
        activation.withdraw(version_store, STAGE, 1, reason="NaN")
    bring(version_store, 2)
    assert activation.withdraw(version_store, STAGE, 2, reason="NaN").after == 1
    kept = next(each for each in view(version_store, None) if each.version == 2)
    assert (kept.place, kept.note) == ("kept", "NaN")


@pytest.mark.parametrize("moved", [False, True], ids=["before the move", "after the move"])
def test_after_a_crash_the_journal_follows_what_serves(version_store, monkeypatch, moved):
    bring(version_store, 1)
    bring(version_store, 2)
    take_out = VersionStore.take_out

    def crash(self: VersionStore, stage: str, version: int) -> Path:
        if moved:
            take_out(self, stage, version)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(VersionStore, "take_out", crash)
        with pytest.raises(KeyboardInterrupt):
            rollback(version_store)
    assert [entry.action for entry in version_store.journal.unfinished()] == [Action.ROLLBACK]
    with activation.opened(version_store):
        assert version_store.journal.unfinished() == []
    assert version_store.journal.entries()[-1].phase == ("done" if moved else "undone")
    assert history(version_store.journal.entries(), STAGE) == ([] if moved else [1])
    assert version_store.newest(STAGE) == (1 if moved else 2)


def test_a_line_torn_by_a_crash_is_skipped(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    first = Entry(Action.IMPORT, STAGE, 2, 1, 2)
    journal.append(first)
    with (tmp_path / "journal.jsonl").open("ab") as file:
        file.write(b'{"action": "roll')
    journal.append(Entry(Action.ROLLBACK, STAGE, 1, 2, 1))
    assert [entry.action for entry in journal.entries()] == [Action.IMPORT, Action.ROLLBACK]


def test_between_file_systems_a_copy_is_complete_before_it_is_visible(version_store, monkeypatch):
    bring(version_store, 1)
    bring(version_store, 2)
    rename = Path.rename

    def no_link(self: Path, target: Path) -> Path:
        if self.is_relative_to(version_store.repository) != Path(target).is_relative_to(
            version_store.repository
        ):
            raise OSError(18, "Invalid cross-device link")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", no_link)
    assert rollback(version_store) == (2, 1)
    assert where(version_store) == ([1], [2])
    assert activate(version_store, 2) == (1, 2)
    assert (version_store.placed(STAGE, 2) / "model.onnx").read_bytes() == b"network 2"
    left = [path.name for path in version_store.repository.rglob(".*")]
    assert left == []


def test_a_second_change_waits_for_the_first(version_store, monkeypatch):
    bring(version_store, 1)
    bring(version_store, 2)
    monkeypatch.setattr(store_module, "_LOCK_SECONDS", 0.3)
    with version_store.locked():
        with pytest.raises(LifecycleError, match=f"process {os.getpid()} changes models now"):
            rollback(version_store)
        monkeypatch.setattr(store_module, "_LOCK_SECONDS", 30)
        second = threading.Thread(target=rollback, args=[version_store])
        second.start()
        second.join(0.3)
        assert second.is_alive()
        assert version_store.newest(STAGE) == 2
    second.join(60)
    assert version_store.newest(STAGE) == 1


def test_versions_that_triton_refuses_have_a_reason(version_store):
    drop(version_store, 1)
    drop(version_store, 2)
    states = {(STAGE, 1): TritonState("READY", ""), (STAGE, 2): TritonState("UNAVAILABLE", "bad")}
    shown = {each.version: each for each in view(version_store, states)}
    assert shown[1].place == "serving"
    assert shown[2].place == "refused"
    assert shown[2].state.reason == "bad"
    assert shown[1].digest == "no sidecar"


def test_stages_have_short_names():
    assert stage_name("embedding") == stage_name("face_embedding") == STAGE
    with pytest.raises(LifecycleError, match="'pipeline' is no stage"):
        stage_name("pipeline")


def test_a_real_version_passes_and_a_changed_byte_does_not(version_store, tmp_path):
    network = tiny_sources.save_embedder(tmp_path / "net.onnx")
    import_weights(Order(embedding=network), version_store.repository)
    folder = version_store.placed(STAGE, 1)
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


def test_numbers_of_kept_versions_are_not_reused(version_store, tmp_path):
    network = tiny_sources.save_embedder(tmp_path / "net.onnx")
    bring(version_store, 1)
    bring(version_store, 2)
    rollback(version_store)
    cards = import_weights(
        Order(embedding=network), version_store.repository, reserved=version_store.kept_versions
    )
    assert cards[0].version == 3


def test_a_start_takes_broken_newest_versions_out(version_store, tmp_path):
    network = tiny_sources.save_embedder(tmp_path / "net.onnx")
    import_weights(Order(embedding=network), version_store.repository)
    drop(version_store, 2, b"garbage")
    (version_store.placed(STAGE, 3)).mkdir()
    reported: list[str] = []
    withdraw_broken(version_store, report=reported.append)
    assert where(version_store) == ([1], [2, 3])
    assert [line.split(":")[0] for line in reported] == [
        f"{STAGE} 3 is taken out, 1 serves",
        f"{STAGE} 2 is taken out, 1 serves",
    ]
    assert [entry.action for entry in version_store.journal.entries()] == [Action.WITHDRAW] * 4


def test_a_start_keeps_the_only_version_even_if_broken(version_store):
    drop(version_store, 1, b"garbage")
    withdraw_broken(version_store, report=pytest.fail)
    assert where(version_store) == ([1], [])


class Clock:
    def __init__(self, monkeypatch) -> None:
        self.now = time.monotonic()
        monkeypatch.setattr(watching.time, "monotonic", lambda: self.now)


@pytest.fixture
def watched(version_store, monkeypatch):
    """Return a watch with a scripted Triton and clock; files count as written long ago."""
    drop(version_store, 1)
    drop(version_store, 2, b"garbage")
    watch = watching.VersionWatch(
        Settings(), version_store, patience_seconds=10, report=lambda _: None
    )
    clock = Clock(monkeypatch)
    monkeypatch.setattr(watching, "_last_written", lambda _: 0.0)

    def look(state: str, *, after_seconds: float = 0) -> list[int]:
        clock.now += after_seconds
        states = {(STAGE, 2): TritonState(state, "bad"), (STAGE, 1): TritonState("READY", "")}
        monkeypatch.setattr(watching, "read_states", lambda _: states)
        watch.look()
        return version_store.placed_versions(STAGE)

    return look


def test_a_version_that_keeps_failing_is_taken_out(watched, version_store):
    assert watched("UNAVAILABLE") == [1, 2]
    assert watched("LOADING", after_seconds=6) == [1, 2]
    assert watched("UNAVAILABLE", after_seconds=6) == [1]
    assert version_store.journal.entries()[-1].reason == "bad"


def test_a_version_that_finally_works_is_kept(watched):
    assert watched("UNAVAILABLE") == [1, 2]
    assert watched("READY", after_seconds=6) == [1, 2]
    assert watched("UNAVAILABLE", after_seconds=6) == [1, 2]


def test_a_folder_that_is_still_being_written_is_left_alone(watched, monkeypatch):
    monkeypatch.setattr(watching, "_last_written", lambda _: time.time())
    assert watched("UNAVAILABLE") == [1, 2]
    assert watched("UNAVAILABLE", after_seconds=60) == [1, 2]
