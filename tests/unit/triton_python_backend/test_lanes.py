"""Threads in place of instances: side by side, and never more at a time than there are threads."""

import threading

from triton_python_backend.lanes import Lanes


def test_as_much_work_runs_side_by_side_as_there_are_threads():
    lanes, meeting, met = Lanes(2), threading.Barrier(2, timeout=60), []

    def work() -> None:
        meeting.wait()
        met.append(threading.get_ident())

    for _ in range(2):
        lanes.take(work)
    lanes.close()
    assert len(set(met)) == 2


def test_more_work_waits_with_the_caller():
    lanes, release, begun = Lanes(1), threading.Event(), []
    lanes.take(lambda: begun.append(release.wait(60)))
    taken = threading.Event()
    caller = threading.Thread(target=lambda: (lanes.take(lambda: None), taken.set()))
    caller.start()
    assert not taken.wait(0.1)
    release.set()
    assert taken.wait(60)
    caller.join()
    lanes.close()
    assert begun == [True]


def test_a_thread_is_free_again_after_work_that_fails():
    lanes, later = Lanes(1), threading.Event()

    def fail() -> None:
        raise RuntimeError("broken")

    lanes.take(fail)
    lanes.take(later.set)
    lanes.close()
    assert later.is_set()
