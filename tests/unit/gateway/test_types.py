from dataclasses import replace

import pytest

from gateway.types import EngineStatus, QualityLimits, StageStatus, StageVersion
from tests.support.fake_inference import GOOD

CASES = {
    "too_small": {"size": 39.9},
    "blurred": {"sharpness": 0.1},
    "too_dark": {"brightness": 0.1},
    "too_bright": {"brightness": 0.95},
    "turned_away": {"yaw": -50},
    "looking_up_or_down": {"pitch": 40},
    "tilted": {"roll": 60},
}


def test_a_good_face_has_no_reasons():
    assert QualityLimits().reasons(GOOD) == ()


@pytest.mark.parametrize("reason", CASES)
def test_each_limit_has_its_reason(reason):
    assert QualityLimits().reasons(replace(GOOD, **CASES[reason])) == (reason,)


def test_all_reasons_are_listed():
    worst = replace(GOOD, size=1, sharpness=0, yaw=90)
    assert QualityLimits().reasons(worst) == ("too_small", "blurred", "turned_away")


def test_values_at_the_limits_are_acceptable():
    limits = QualityLimits()
    edge = replace(GOOD, size=limits.min_size, yaw=limits.max_yaw, roll=-limits.max_roll)
    assert limits.reasons(edge) == ()
    dim = replace(GOOD, sharpness=limits.min_sharpness, brightness=limits.min_brightness)
    assert limits.reasons(dim) == ()
    bright = replace(GOOD, brightness=limits.max_brightness, pitch=-limits.max_pitch)
    assert limits.reasons(bright) == ()


def test_each_stage_needs_one_ready_version():
    old, new = StageVersion("1", "UNAVAILABLE", "unloaded"), StageVersion("2", "READY", "")
    served, gone = StageStatus("a", (old, new)), StageStatus("b", (old,))
    assert EngineStatus(True, "", (served,)).ready
    assert not EngineStatus(True, "", (served, gone)).ready
    assert not EngineStatus(False, "", ()).ready
