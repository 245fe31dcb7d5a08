import pytest

from tools.evaluation.second_look import FEWEST_PHOTOS, MARGIN, Seen, conclude

SURE = Seen(frame=0.85, upright_frame=0.85, upright=0.85, adds=False)


def photos(*others: Seen) -> list[Seen]:
    upside_down = Seen(frame=0.85, upright_frame=0.85, upright=0.85, adds=False, upside_down=0.66)
    return [SURE] * FEWEST_PHOTOS + [upside_down] * 10 + list(others)


def added(confidence: float) -> Seen:
    return Seen(confidence, confidence, confidence, adds=True)


def doubtful(confidence: float) -> Seen:
    return Seen(confidence, confidence, confidence, adds=False)


def test_closeups_are_looked_at_while_enough_of_them_show_a_face():
    found = conclude(photos(added(0.7), *[doubtful(0.69)] * 80))
    assert found is not None
    assert found.closeup_below == pytest.approx(0.7 + MARGIN)
    assert found.turned_below == pytest.approx(0.66)


def test_one_face_in_many_closeups_is_not_worth_them():
    found = conclude(photos(added(0.7), *[doubtful(0.69)] * 200))
    assert found is not None
    assert found.closeup_below == found.turned_below
    assert found.closeup_share == 0


def test_a_closeup_that_is_looked_at_before_turning_costs_nothing_more():
    found = conclude(photos(added(0.6), *[doubtful(0.62)] * 400))
    assert found is not None
    assert found.closeup_below == found.turned_below
    assert found.closeup_share == pytest.approx(401 / found.photos, abs=1e-4)


def test_shares_count_the_photos_that_are_looked_at_again():
    found = conclude(
        photos(
            # nothing in the frame, a sure face in the close-up
            *[Seen(0, 0, 0.9, adds=True)] * 40,
            # too tilted for an upright face, and no better in the close-up
            *[Seen(0.8, 0, 0.6, adds=False)] * 50,
        )
    )
    assert found is not None
    assert found.photos == FEWEST_PHOTOS + 100
    assert found.closeup_share == pytest.approx(90 / found.photos, abs=1e-4)
    assert found.turned_share == pytest.approx(50 / found.photos, abs=1e-4)


def test_photos_without_faces_say_nothing():
    nothing = Seen(0, 0, 0, adds=False)
    assert conclude([nothing] * 5000) is None
    assert conclude([SURE] * (FEWEST_PHOTOS - 1)) is None
    found = conclude(photos(*[nothing] * 500))
    assert found is not None
    assert found.photos == FEWEST_PHOTOS + 10
