from dataclasses import replace

import numpy as np
import orjson
import pytest

from gateway.api.faces.serializers import face_out, models_out
from gateway.api.models.serializers import version_out
from gateway.api.shapes import dump_json
from gateway.registry.version_metadata import VersionMetadata
from gateway.types import Analysis, Face, Need, StageVersion, Weights
from tests.support.fake_inference import expected_face

FACE = expected_face(0, 0, Need.EMBEDDING | Need.SCORE | Need.CROPS)


def written(face: Face, need: Need = Need.NOTHING_MORE):
    return orjson.loads(dump_json(face_out(face, need)))


def test_coordinates_have_two_decimals_and_ratings_four():
    shaped = written(
        replace(
            FACE.with_outputs(score=6.423456),
            box=(1.234567, 2.0, 3.456789, 4.0),
            confidence=0.912345,
        ),
        Need.SCORE,
    )
    assert shaped["box"] == [1.23, 2.0, 3.46, 4.0]
    assert (shaped["confidence"], shaped["score"]) == (0.9123, 6.4235)


def test_a_head_that_does_not_fit_scores_null():
    assert written(FACE.with_outputs(score=float("nan")), Need.SCORE)["score"] is None


def test_outputs_that_were_not_requested_are_absent():
    assert set(written(FACE)) == {"box", "landmarks", "confidence", "quality"}
    assert set(written(FACE, Need.EMBEDDING)) >= {"embedding"}
    assert "crop" not in written(FACE, Need.EMBEDDING)


def test_an_embedding_is_written_exactly():
    embedding = np.random.default_rng(0).normal(size=128).astype(np.float32)
    shaped = written(FACE.with_outputs(embedding=embedding), Need.EMBEDDING)["embedding"]
    np.testing.assert_array_equal(np.array(shaped, dtype=np.float32), embedding)


def test_an_unacceptable_face_has_reasons():
    quality = replace(FACE.quality, size=12, yaw=-80)
    shaped = written(replace(FACE, quality=quality))["quality"]
    assert (shaped["acceptable"], shaped["reasons"]) == (False, ["too_small", "turned_away"])


def test_stages_that_were_not_asked_are_null():
    shaped = models_out(
        Analysis(
            (),
            {"face_detection": Weights("d" * 16, None), "face_embedding": Weights("e" * 16, "4")},
        )
    )
    assert shaped.model_dump() == {
        "detection": None,
        "embedding": "4",
        "scoring": None,
        "space": "e" * 16,
    }


@pytest.mark.parametrize(
    ("live", "written_down", "expected"), [("a", "a", "ff"), ("a", "b", None), (None, "b", "ff")]
)
def test_metadata_counts_only_for_the_weights_that_answered(live, written_down, expected):
    version = StageVersion("1", "READY", "", live)
    shaped = version_out("face_detection", version, VersionMetadata(id=written_down, sha256="ff"))
    assert shaped.sha256 == expected
