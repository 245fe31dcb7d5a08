from dataclasses import fields, replace

import pytest

from benchmarks.peers.measure import Figures, Outcome, Plan
from benchmarks.peers.report import content, markdown, summary

PHOTO = "one.jpg"


class Named:
    """What the report asks of a service."""

    def __init__(self, name, *, answers_all=True):
        self.name, self.work, self.answers_all = name, "finds | embeds", answers_all

    def origin(self):
        return {"version": "1.0", "built from": "a checkout"}


def figures(rate, **others):
    every = dict.fromkeys([field.name for field in fields(Figures)], 10.0)
    return replace(Figures(**every), photos_per_second=rate, **others)


def outcome(*rates, faces=1):
    return Outcome({PHOTO: [figures(rate) for rate in rates]}, {PHOTO: faces})


def test_ratios_are_taken_round_by_round():
    found = summary({"Aurum": outcome(10, 20, 40), "a peer": outcome(5, 20, 10)}, [PHOTO])[PHOTO]
    rate = found["a peer"]["photos_per_second"]
    assert rate["median"] == 10
    assert rate["of_aurums"] == {"median": 0.5, "min": 0.25, "max": 1.0}
    assert "of_aurums" not in found["Aurum"]["photos_per_second"]


@pytest.mark.parametrize("faces", [0, 2])
def test_a_peer_that_finds_another_number_of_faces_is_not_compared(faces):
    outcomes = {"Aurum": outcome(10), "a peer": outcome(30, faces=faces)}
    found = summary(outcomes, [PHOTO])[PHOTO]["a peer"]
    assert found["faces"] == faces
    assert "of_aurums" not in found["photos_per_second"]


@pytest.mark.parametrize(("faces", "compared"), [(1, True), (0, False)])
def test_a_peer_that_answers_one_of_its_faces_is_compared(faces, compared):
    outcomes = {"Aurum": outcome(10, faces=6), "a peer": outcome(30, faces=faces)}
    found = summary(outcomes, [PHOTO], ["a peer"])[PHOTO]["a peer"]
    assert ("of_aurums" in found["photos_per_second"]) is compared


def test_no_faces_in_both_are_not_compared():
    outcomes = {"Aurum": outcome(10, faces=0), "a peer": outcome(30, faces=0)}
    assert "of_aurums" not in summary(outcomes, [PHOTO])[PHOTO]["a peer"]["photos_per_second"]


def test_tables_name_what_ran_and_why_the_others_did_not():
    services = [Named("Aurum"), Named("a peer")]
    outcomes = {
        "Aurum": outcome(10, 10),
        "a peer": outcome(5, 6),
        "another": Outcome({}, {}, "pip said:\n a | b"),
    }
    found = content(outcomes, services, [PHOTO], Plan(2, 1.0))
    assert found["not_run"] == {"another": "pip said:\n a | b"}
    text = markdown(found)
    assert "| another | not run | pip said: a \\| b |" in text
    assert "| a peer | 1.0 | a checkout | finds \\| embeds |" in text
    assert "| a peer | 1 | 5.5 (5-6) |" in text
    assert "| a peer | 0.55 (0.5-0.6) |" in text


def test_without_aurum_there_are_no_ratios():
    outcomes = {"Aurum": Outcome({}, {}, "does not start"), "a peer": outcome(5)}
    found = content(outcomes, [Named("Aurum"), Named("a peer")], [PHOTO], Plan(1, 1.0))
    assert "does not start" in markdown(found)
    assert "of_aurums" not in found["results"][PHOTO]["a peer"]["photos_per_second"]


def test_one_that_left_in_the_first_round_has_no_row():
    found = summary({"Aurum": outcome(10), "a peer": Outcome({}, {}, "it ended")}, [PHOTO])
    assert set(found[PHOTO]) == {"Aurum"}
