"""The slow lane: one job after the other, beside the caller, with a bounded queue."""

import os
import threading

from triton_python_backend.slow_lane import SlowLane


def test_jobs_run_beside_the_caller_one_after_the_other():
    lane, release, done = SlowLane(), threading.Event(), []

    def work(number: int) -> None:
        assert release.wait(60)
        done.append(number)

    assert all(lane.take(lambda number=number: work(number)) for number in range(3))
    assert done == []
    release.set()
    lane.close()
    assert done == [0, 1, 2]


def test_jobs_beyond_the_queue_are_refused_until_there_is_room():
    lane, release = SlowLane(max_waiting=2), threading.Event()
    held = [threading.Event(), threading.Event()]
    assert lane.take(lambda: (release.wait(60), held[0].set()))
    assert lane.take(held[1].set)
    assert not lane.take(lambda: None)
    release.set()
    assert held[1].wait(60)
    lane.close()


def test_a_failing_job_releases_its_place():
    lane, later = SlowLane(max_waiting=1), threading.Event()
    tried = threading.Event()

    def fail() -> None:
        tried.set()
        raise RuntimeError("broken")

    assert lane.take(fail)
    assert tried.wait(60)
    while not lane.take(later.set):
        pass
    assert later.wait(60)
    lane.close()


def test_only_the_thread_has_a_low_priority():
    lane, seen = SlowLane(), []
    before = os.getpriority(os.PRIO_PROCESS, 0)
    lane.take(lambda: seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id())))
    lane.close()
    assert seen[0] >= min(before + 1, 19)
    assert os.getpriority(os.PRIO_PROCESS, os.getpid()) == before
