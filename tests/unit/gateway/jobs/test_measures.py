from gateway.jobs.measures import WorkerCounts
from gateway.records.job_types import WorkerRecord


def worker(name: str = "a", started_at: float = 1.0, **counters: float) -> WorkerRecord:
    return WorkerRecord(name, "here", 1, started_at, 2.0, 4, counters=counters)


def grown(counts: WorkerCounts, *workers: WorkerRecord) -> float:
    return counts.growth(workers)["ok"]


def test_workers_from_before_the_start_count_from_what_they_have():
    counts = WorkerCounts()
    assert grown(counts, worker(ok=10)) == 0
    assert grown(counts, worker(ok=12)) == 2


def test_workers_that_come_and_go_add_up():
    counts = WorkerCounts()
    assert grown(counts) == 0
    assert grown(counts, worker(ok=5)) == 5
    assert grown(counts, worker(ok=7), worker("b", ok=1)) == 3
    # a has ended, b goes on
    assert grown(counts, worker("b", ok=4)) == 3
    # a was only not seen for a while
    assert grown(counts, worker(ok=8), worker("b", ok=4)) == 1
    # another process under its name
    assert grown(counts, worker(started_at=9.0, ok=2)) == 2


def test_a_count_never_falls():
    counts = WorkerCounts()
    grown(counts)
    assert grown(counts, worker(ok=5)) == 5
    assert grown(counts, worker(ok=3)) == 0
    assert grown(counts, worker(ok=6)) == 1


def test_unknown_counters_are_left_out_and_missing_ones_are_zero():
    counts = WorkerCounts()
    counts.growth(())
    assert counts.growth([worker(seconds=3.5, dead=1)]) == {
        "ok": 0,
        "failed": 0,
        "retried": 0,
        "dropped": 0,
        "dead": 1,
    }
