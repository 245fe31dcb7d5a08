from dataclasses import replace

import numpy as np
import pytest

from gateway.monitoring.drift import Distributions
from gateway.registry.reference import REFERENCE_FILE, Reference, References
from gateway.telemetry.metrics import Metrics
from gateway.types import Analysis, Need, Weights
from tests.support.fake_inference import DIMENSION, expected_face
from tests.unit.tools.evaluation.test_references import reference

FACE = expected_face(0, 0, Need.EMBEDDING | Need.SCORE)
IDS = {"face_detection": "d" * 16, "face_embedding": "e" * 16, "face_scoring": "f" * 16}


def halves(edge: float) -> dict[str, object]:
    return {"edges": [edge], "shares": [0.5, 0.5]}


def place(repository, stage: str, made: Reference, version: str = "1") -> None:
    folder = repository / stage / version
    folder.mkdir(parents=True, exist_ok=True)
    (folder / REFERENCE_FILE).write_text(made.model_dump_json())


class Followed:
    """Return drift detection over a repository, and its metrics."""

    def __init__(self, repository, **settings) -> None:
        self.now = 0.0
        self.metrics = Metrics()
        chosen = {"window_faces": 100, "min_faces": 50, "alert": 0.25, **settings}
        references = References(repository, clock=lambda: self.now)
        self.followed = Distributions(references, self.metrics.drift, **chosen)

    def see(self, face, times: int, **ids: str) -> None:
        named = {**IDS, **ids}
        weights = {stage: Weights(named[stage], "1") for stage in IDS}
        for _ in range(times):
            self.followed.observe(Analysis((face,), weights))

    def exported(self, measure: str, name: str = "psi") -> dict[str, float]:
        """Return the values of a metric by id."""
        (family,) = (
            each for each in self.metrics.registry.collect() if each.name == f"aurum_drift_{name}"
        )
        return {
            sample.labels["id"]: sample.value
            for sample in family.samples
            if sample.labels["measure"] == measure
        }


@pytest.fixture
def repository(tmp_path):
    place(
        tmp_path,
        "face_detection",
        reference(
            IDS["face_detection"], measures={"confidence": halves(0.9), "sharpness": halves(0.5)}
        ),
    )
    mean = [1.0] + [0.0] * (DIMENSION - 1)
    place(
        tmp_path,
        "face_embedding",
        reference(IDS["face_embedding"], measures={"cosine_to_mean": halves(0.5)}, mean=mean),
    )
    place(tmp_path, "face_scoring", reference(IDS["face_scoring"], measures={"score": halves(5)}))
    return tmp_path


def test_nothing_is_exported_for_few_faces(repository):
    watched = Followed(repository)
    watched.see(FACE, 49)
    assert watched.exported("confidence") == {}
    assert watched.exported("confidence", "faces") == {IDS["face_detection"]: 49}
    watched.see(FACE, 1)
    assert watched.exported("confidence")[IDS["face_detection"]] > 0.25
    assert watched.metrics.registry.get_sample_value("aurum_drift_psi_alert") == 0.25


def test_faces_like_those_of_the_reference_do_not_drift(repository):
    watched = Followed(repository)
    low = replace(FACE, confidence=0.8).with_outputs(score=4.0, embedding=-FACE.embedding)
    for _ in range(30):
        watched.see(FACE.with_outputs(score=6.0), 1)
        watched.see(low, 1)
    for measure, stage in (
        ("confidence", "face_detection"),
        ("cosine_to_mean", "face_embedding"),
        ("score", "face_scoring"),
    ):
        assert watched.exported(measure) == {IDS[stage]: pytest.approx(0)}, measure
    # always 0.7: above the limit
    assert watched.exported("sharpness")[IDS["face_detection"]] > 0.25


def test_the_window_slides_and_the_warning_ends(repository, caplog):
    watched = Followed(repository)
    watched.see(FACE, 100)
    drifted = [each for each in caplog.records if each.getMessage() == "faces drifted"]
    assert {each.measure for each in drifted} == {
        "confidence",
        "sharpness",
        "cosine_to_mean",
        "score",
    }
    caplog.clear()
    for _ in range(50):
        watched.see(FACE, 1)
        watched.see(replace(FACE, confidence=0.8), 1)
    assert watched.exported("confidence", "faces") == {IDS["face_detection"]: 100}
    assert watched.exported("confidence") == {IDS["face_detection"]: pytest.approx(0)}
    (over,) = caplog.records
    assert (over.getMessage(), over.measure) == ("faces are as they were", "confidence")


def test_other_weights_have_their_own_window(repository):
    watched = Followed(repository)
    watched.see(FACE, 60)
    place(
        repository,
        "face_detection",
        reference("9" * 16, measures={"confidence": halves(0.99)}),
        "2",
    )
    watched.now = 60
    watched.see(FACE, 10, face_detection="9" * 16)
    assert watched.exported("confidence", "faces") == {IDS["face_detection"]: 60, "9" * 16: 10}
    assert set(watched.exported("confidence")) == {IDS["face_detection"]}


def test_weights_without_a_reference_are_not_measured(repository):
    watched = Followed(repository)
    watched.see(FACE, 60, face_detection="0" * 16)
    assert watched.exported("confidence", "faces") == {}
    assert set(watched.exported("score", "faces")) == {IDS["face_scoring"]}


def test_weights_out_of_service_are_dropped(repository):
    watched = Followed(repository)
    watched.see(FACE, 60)
    for number in range(6):
        identifier = str(number) * 16
        place(
            repository,
            "face_detection",
            reference(identifier, measures={"confidence": halves(0.9)}),
            str(number + 2),
        )
        watched.now += 60
        watched.see(FACE, 1, face_detection=identifier)
    assert IDS["face_detection"] not in watched.exported("confidence", "faces")
    assert IDS["face_detection"] not in watched.exported("confidence")
    assert len(watched.exported("confidence", "faces")) == 4, "six windows, two of other stages"


def test_a_new_reference_starts_a_new_window(repository):
    watched = Followed(repository)
    watched.see(FACE, 60)
    place(repository, "face_scoring", reference(IDS["face_scoring"], measures={"score": halves(2)}))
    watched.now = 60
    watched.see(FACE, 1)
    assert watched.exported("score", "faces") == {IDS["face_scoring"]: 1}
    assert watched.exported("confidence", "faces") == {IDS["face_detection"]: 61}


def test_scores_of_a_foreign_head_and_absent_embeddings_do_not_count(repository):
    watched = Followed(repository)
    watched.see(FACE.with_outputs(score=float("nan"), embedding=None), 10)
    assert watched.exported("score", "faces") == {IDS["face_scoring"]: 0}
    assert watched.exported("cosine_to_mean", "faces") == {IDS["face_embedding"]: 0}
    watched.see(FACE.with_outputs(embedding=np.ones(3, np.float32)), 10)
    assert watched.exported("cosine_to_mean", "faces") == {IDS["face_embedding"]: 0}
