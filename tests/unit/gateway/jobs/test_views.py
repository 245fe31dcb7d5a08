from dataclasses import replace

import pytest

from gateway.jobs.views import make_view, recent_rate
from gateway.records.job_types import JobRecord, WorkerRecord

NOW = 1000.0
RUNNING = JobRecord(
    "id", "t", "a", "detect", 0.0, state="running", total=1000, done=600, started_at=10.0
)


def worker(name="a", operations=("detect",), **counters):
    return WorkerRecord(name, "here", 1, 1.0, NOW, 4, operations, counters)


WORKER = worker()
TRITON_AWAY = worker(waiting_for_triton=1)
IMAGES_AWAY = worker(waiting_for_images=1)


def view(job, *, workers=(WORKER,), delayed=None, ended_at=None):
    return make_view(job, ended_at or {}, workers=workers, delayed=delayed, now=NOW)


def test_the_rate_covers_the_last_minute_not_the_whole_job():
    # 512 images ago it was fast, of late it is slow
    ended_at = {0: NOW, 8: NOW - 16, 32: NOW - 50, 128: NOW - 70, 512: NOW - 90}
    assert recent_rate(RUNNING, ended_at, now=NOW) == pytest.approx(32 / 50)


def test_time_without_an_image_counts():
    assert recent_rate(RUNNING, {0: NOW - 20, 8: NOW - 40}, now=NOW) == pytest.approx(8 / 40)


def test_a_young_job_is_measured_from_its_start():
    job = replace(RUNNING, done=3, failed=1, started_at=NOW - 8)
    assert recent_rate(job, {0: NOW - 1}, now=NOW) == pytest.approx(4 / 8)


def test_a_slow_job_is_measured_over_few_images():
    ended_at = {0: NOW - 30, 8: NOW - 240, 32: NOW - 900}
    assert recent_rate(RUNNING, ended_at, now=NOW) == pytest.approx(8 / 240)


@pytest.mark.parametrize(
    ("job", "ended_at"),
    [
        (RUNNING, {}),
        # nothing ended lately
        (RUNNING, {0: NOW - 61, 8: NOW - 70}),
        # what ended before is no measure of what was resumed
        (replace(RUNNING, done=1), {0: NOW - 5}),
        (replace(RUNNING, state="paused"), {0: NOW, 8: NOW - 8}),
        (replace(RUNNING, state="queued"), {0: NOW, 8: NOW - 8}),
        (replace(RUNNING, state="done"), {0: NOW, 8: NOW - 8}),
    ],
)
def test_the_rate_is_unknown_unless_images_are_ending(job, ended_at):
    assert recent_rate(job, ended_at, now=NOW) is None
    shown = view(job, ended_at=ended_at)
    assert shown.images_per_second is shown.seconds_left is None


def test_many_images_at_one_moment_make_no_infinite_rate():
    job = replace(RUNNING, started_at=NOW)
    assert recent_rate(job, {0: NOW, 8: NOW}, now=NOW) == pytest.approx(8000)


def test_seconds_left_follow_from_the_rate():
    shown = view(RUNNING, ended_at={0: NOW, 8: NOW - 4})
    assert (shown.images_per_second, shown.seconds_left) == (2.0, 200.0)


@pytest.mark.parametrize(
    ("changes", "more", "detail"),
    [
        ({}, {}, None),
        ({"state": "queued"}, {"workers": ()}, "no worker is running; start one with: "),
        ({}, {"workers": (), "delayed": ("timeout", "x")}, "no worker is running"),
        ({}, {"workers": [worker(operations=("enrol",))]}, "no worker is running"),
        ({}, {"workers": [worker(operations=())]}, None),
        ({}, {"workers": [TRITON_AWAY]}, "Triton is away; the worker waits for it"),
        ({}, {"workers": [TRITON_AWAY] * 2}, "Triton is away; all 2 workers wait for it"),
        ({}, {"workers": [TRITON_AWAY, worker(operations=("enrol",))]}, "Triton is away"),
        ({}, {"workers": [TRITON_AWAY, worker()]}, None),
        ({}, {"workers": [IMAGES_AWAY], "delayed": ("timeout", "")}, "the store of images is away"),
        ({}, {"delayed": ("timeout", "too slow")}, "another attempt: timeout (too slow)"),
        ({}, {"delayed": ("timeout", "")}, "images wait for another attempt: timeout"),
        ({"state": "paused"}, {"workers": ()}, "the job is paused"),
        ({"state": "receiving"}, {}, "being received"),
        ({"state": "cancelled"}, {}, "cancelled with 400 images left"),
        ({"state": "cancelled", "done": 999}, {}, "cancelled with 1 image left"),
        ({"state": "cancelled", "done": 1000}, {}, "cancelled"),
        ({"state": "expired"}, {}, "deleted"),
        ({"state": "done", "done": 1000}, {}, None),
        ({"state": "done", "done": 998, "failed": 2}, {}, "2 images of 1000 failed"),
    ],
)
def test_the_detail_says_what_a_person_wants_to_know(changes, more, detail):
    shown = view(replace(RUNNING, **changes), **more).detail
    assert shown == detail if detail is None else detail in (shown or "")


def test_figures_that_change_all_the_time_are_no_change():
    ended_at = {0: NOW, 8: NOW - 4}
    assert view(RUNNING).shown_change == view(RUNNING, ended_at=ended_at).shown_change
    assert view(RUNNING).shown_change != view(replace(RUNNING, done=601)).shown_change
