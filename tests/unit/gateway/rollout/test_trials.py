"""Which requests a candidate answers, how answers differ, when a candidate is broken."""

import math
from dataclasses import replace

import numpy as np
import pytest

from gateway.rollout.compare import compare, match_faces
from gateway.rollout.failure_guard import FailureGuard
from gateway.rollout.plan import RequestIdentity, in_share
from gateway.types import DEFAULT_TENANT, Analysis, Need, Weights
from tests.support.fake_candidate import TRIED, candidate, plan
from tests.support.fake_inference import DETECTOR, HEAD, SPACE, expected_face

KEYS = [f"request-{number}" for number in range(20_000)]
EVERYTHING = Need.EMBEDDING | Need.SCORE


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
def test_a_share_has_the_requested_size_and_is_stable(share):
    chosen = [in_share(plan(share=share), key) for key in KEYS]
    spread = math.sqrt(share * (1 - share) / len(KEYS))
    assert abs(np.mean(chosen) - share) < 4 * spread
    # another trial of the same version, for example in another process
    assert chosen == [in_share(plan(share=share, trial="other"), key) for key in KEYS]


def test_a_share_of_one_is_every_request():
    assert all(in_share(plan(share=1.0), key) for key in KEYS)


def test_a_growing_share_keeps_its_keys():
    few = {key for key in KEYS if in_share(plan(share=0.1), key)}
    more = {key for key in KEYS if in_share(plan(share=0.3), key)}
    assert few < more


def test_another_version_has_other_keys():
    first = {key for key in KEYS if in_share(plan(share=0.1), key)}
    second = {key for key in KEYS if in_share(plan(share=0.1, version=8), key)}
    assert len(first & second) < 0.2 * len(first)


def test_by_tenant_one_version_answers_all_requests_of_a_tenant():
    tried = candidate(share=0.5, by="tenant")
    ways = {
        tenant: {tried.answers(RequestIdentity(key, tenant), Need.EMBEDDING) for key in KEYS[:50]}
        for tenant in ("one", "two", "three", "four", "five", "six")
    }
    assert all(len(found) == 1 for found in ways.values())
    assert len({way for found in ways.values() for way in found}) == 2


def test_without_a_tenant_the_request_id_decides():
    tried = candidate(share=0.5, by="tenant")
    found = [
        tried.answers(RequestIdentity(key, DEFAULT_TENANT), Need.EMBEDDING) for key in KEYS[:1000]
    ]
    assert 400 < sum(found) < 600


CONCERNED = {
    "face_detection": {Need.NOTHING_MORE, Need.EMBEDDING, Need.SCORE, EVERYTHING},
    "face_embedding": {Need.EMBEDDING, Need.SCORE, EVERYTHING},
    "face_scoring": {Need.SCORE, EVERYTHING},
}


@pytest.mark.parametrize("stage", CONCERNED)
def test_a_candidate_answers_only_requests_that_use_its_stage(stage):
    needs = (Need.NOTHING_MORE, Need.EMBEDDING, Need.SCORE, EVERYTHING)
    identity = RequestIdentity("any", DEFAULT_TENANT)
    found = {need for need in needs if candidate(stage=stage).answers(identity, need)}
    assert found == CONCERNED[stage]


def test_a_candidate_without_scores_gets_no_score_requests():
    tried = candidate(rates=False)
    identity = RequestIdentity("any", DEFAULT_TENANT)
    assert tried.answers(identity, Need.EMBEDDING)
    assert not tried.answers(identity, Need.SCORE)
    assert not tried.answers(identity, EVERYTHING)


def test_a_shadow_answers_no_request():
    tried = candidate(mode="shadow")
    assert tried.concerns(Need.EMBEDDING)
    assert not tried.answers(RequestIdentity("any", DEFAULT_TENANT), Need.EMBEDDING)


def active(space: str) -> dict[str, Weights]:
    return {
        "face_detection": Weights(DETECTOR, "1"),
        "face_embedding": Weights(space, "2"),
        "face_scoring": Weights(HEAD, "3"),
    }


def test_it_stands_among_the_weights_in_service():
    weights = active(SPACE)
    assert candidate().among(weights) == {**weights, "face_embedding": Weights(TRIED, "7")}


def analysis(faces, *, space: str = SPACE) -> Analysis:
    return Analysis(tuple(faces), active(space))


def faces(count: int):
    # apart from each other, so that each overlaps only its own pair
    found = [expected_face(number, 0, EVERYTHING) for number in range(count)]
    return [
        replace(face, box=(200.0 * number, 0.0, 200.0 * number + 100, 100.0))
        for number, face in enumerate(found)
    ]


def shifted(face, by: float):
    left, top, right, bottom = face.box
    return replace(face, box=(left + by, top, right + by, bottom))


def test_faces_are_matched_by_their_boxes_whatever_their_order():
    ours = faces(3)
    tried = [shifted(ours[2], 10), shifted(ours[0], 20)]
    found = match_faces(tuple(ours), tuple(tried))
    assert [(a, c) for a, c, _ in found] == [(2, 0), (0, 1)]
    assert [iou for _, _, iou in found] == pytest.approx([90 / 110, 80 / 120])


def test_a_face_is_matched_once_and_with_the_closest():
    ours = faces(1)
    tried = (shifted(ours[0], 30), shifted(ours[0], 5))
    assert [(a, c) for a, c, _ in match_faces(tuple(ours), tried)] == [(0, 1)]


def test_boxes_that_hardly_overlap_are_two_faces():
    ours = faces(2)
    found = compare(analysis(ours), analysis([ours[0], shifted(ours[1], 60)]))
    assert (found.matched, found.only_active, found.only_candidate) == (1, 1, 1)


def test_embeddings_of_one_space_and_scores_are_held_side_by_side():
    ours = faces(2)
    turned = np.float32(0.6) * ours[1].embedding + np.float32(0.8) * ours[0].embedding
    tried = [ours[0].with_outputs(score=3.0), ours[1].with_outputs(embedding=turned)]
    found = compare(analysis(ours), analysis(tried))
    assert sorted(found.values["embedding"]) == pytest.approx([0.6, 1.0])
    assert sorted(found.values["score"]) == pytest.approx([0.0, 2.0])
    assert found.lost == {"score": 0}


def test_embeddings_of_two_spaces_are_never_compared():
    ours = faces(2)
    wide = [face.with_outputs(embedding=np.ones(512, np.float32)) for face in ours]
    found = compare(analysis(ours), analysis(wide, space=TRIED))
    assert found.matched == 2
    assert found.values["embedding"] == ()


def test_a_score_that_only_one_gives_is_lost_or_not_missed():
    ours = faces(3)
    ours[2] = ours[2].with_outputs(score=math.nan)
    tried = [
        ours[0].with_outputs(score=math.nan),
        ours[1].with_outputs(score=None),
        faces(3)[2],
    ]
    found = compare(analysis(ours), analysis(tried))
    assert (found.lost["score"], found.values["score"]) == (2, ())


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_three_failures_in_a_row_are_enough():
    judge = FailureGuard()
    assert [judge.failed(away=False) for _ in range(3)] == ["", "", "3 failures in a row"]


def test_an_answer_resets_the_row_and_five_of_fifty_are_enough():
    judge = FailureGuard()
    said = []
    for _ in range(5):
        said.append(judge.failed(away=False))
        for _ in range(8):
            judge.answered()
    assert said == ["", "", "", "", "5 failures in 37 answers"]


def test_old_failures_do_not_count():
    judge = FailureGuard()
    for _ in range(20):
        assert judge.failed(away=False) == ""
        for _ in range(12):
            judge.answered()


def test_a_short_outage_is_not_a_failure_of_the_candidate():
    clock = Clock()
    judge = FailureGuard(clock=clock)
    for _ in range(20):
        clock.now += 0.2
        assert judge.failed(away=True) == ""
    judge.answered()
    clock.now += 100
    assert judge.failed(away=True) == ""
    clock.now += 6
    assert judge.failed(away=True) == "not there for 6 s"


def test_faces_above_each_other_overlap_by_what_they_share():
    upper = replace(expected_face(0, 0, EVERYTHING), box=(0.0, 0.0, 100.0, 100.0))
    lower = replace(upper, box=(0.0, 25.0, 100.0, 125.0))
    ((_, _, iou),) = match_faces([upper], [lower])
    assert iou == pytest.approx(75 / 125)
    assert list(match_faces([upper], [replace(upper, box=(0.0, 100.0, 100.0, 200.0))])) == []
