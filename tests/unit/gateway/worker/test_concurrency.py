"""The number of images in Triton, from what Triton says that it did."""

import math

import pytest

from gateway.inference.work_done import WorkDone
from gateway.worker.concurrency import ConcurrencyController, Load, LoadMeter

QUIET = Load(others=0, queued_share=0.0)
BUSY = Load(others=3, queued_share=0.0)
QUEUED = Load(others=0, queued_share=0.9)


class Clock:
    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def controller(clock) -> ConcurrencyController:
    return ConcurrencyController(most=4, clock=clock)


def notes(controller, *loads: Load) -> list[int]:
    return [controller.note(load) for load in loads]


def test_it_begins_with_one_and_grows_to_the_most(controller):
    assert controller.limit == 1
    assert notes(controller, *[QUIET] * 5) == [2, 3, 4, 4, 4]


def test_other_callers_bring_it_down_at_once(controller):
    notes(controller, *[QUIET] * 3)
    assert controller.note(BUSY) == 1


def test_it_stays_down_for_a_while_after_the_last_caller(controller, clock):
    notes(controller, QUIET, QUIET, BUSY)
    clock.at = 3.9
    assert controller.note(QUIET) == 1
    clock.at = 4.1
    assert controller.note(QUIET) == 2


def test_a_number_that_only_fills_queues_is_not_tried_again_soon(controller, clock):
    assert notes(controller, QUIET, QUIET, QUEUED, QUIET, QUIET) == [2, 3, 2, 2, 2]
    clock.at = 31
    assert controller.note(QUIET) == 3


def test_queues_never_bring_it_below_one(controller):
    assert notes(controller, QUEUED, QUEUED) == [1, 1]


def test_a_worker_that_may_have_one_has_one():
    assert notes(ConcurrencyController(most=1), QUIET, QUIET) == [1, 1]


def test_no_work_at_all_says_nothing_about_queues(controller):
    assert controller.note(Load(0, math.nan)) == 2


def done(images: int, *, queued: float = 0.0, computed: float = 0.0) -> WorkDone:
    return WorkDone(images, queued, computed)


def others(meter: LoadMeter, *readings: tuple[int, int]) -> list[int]:
    return [meter.read(done(all_), own_images=own).others for all_, own in readings]


def test_own_images_are_nobody_elses():
    assert others(LoadMeter(), (100, 0), (110, 10), (130, 30), (150, 50)) == [0, 0, 0, 0]


def test_others_are_seen_at_the_second_reading():
    assert others(LoadMeter(), (100, 0), (115, 10), (130, 20)) == [0, 0, 5]


def test_callers_that_go_on_are_seen_each_time():
    readings = [(100 + 15 * n, 10 * n) for n in range(6)]
    assert others(LoadMeter(), *readings)[2:] == [5, 5, 5, 5]


def test_an_answer_on_its_way_is_not_taken_for_anothers():
    # Triton has counted two images whose answers have not arrived
    assert others(LoadMeter(), (100, 0), (112, 10), (120, 20), (132, 30), (140, 40)) == [0] * 5


def test_a_triton_that_started_again_begins_anew():
    meter = LoadMeter()
    others(meter, (100, 0), (110, 10))
    assert others(meter, (4, 12), (8, 16), (20, 20), (40, 32)) == [0, 0, 0, 8]


def test_the_share_of_time_in_queues_is_that_between_readings():
    meter = LoadMeter()
    assert math.isnan(meter.read(done(1, queued=5, computed=10), own_images=0).queued_share)
    assert meter.read(done(2, queued=6, computed=14), own_images=0).queued_share == 0.25
    assert math.isnan(meter.read(done(2, queued=6, computed=14), own_images=0).queued_share)
