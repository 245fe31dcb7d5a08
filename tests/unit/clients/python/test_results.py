"""Answers become dataclasses, and refusals exceptions."""

import pickle
import sys
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
from aurum_client import FaceError, Problem, ProblemError, ServiceUnreachableError
from aurum_client.answers import read_error, read_retry_after
from aurum_client.request import path_of
from aurum_client.results.base import read
from aurum_client.results.collections import Cluster, Collection, Progress
from aurum_client.results.faces import Face

QUALITY = {
    "size": 1, "sharpness": 0, "brightness": 0, "yaw": 0, "pitch": 0, "roll": 0,
    "acceptable": True, "reasons": [],
}  # fmt: skip
FACE: dict[str, Any] = {
    "box": [0, 1, 2.5, 3], "landmarks": [[1, 2], [3, 4]], "confidence": 1, "quality": QUALITY,
}  # fmt: skip


def test_numbers_lists_and_objects():
    face = read(Face, FACE | {"embedding": [1, 0.5]})
    assert face.box == (0.0, 1.0, 2.5, 3.0)
    assert isinstance(face.box[0], float)
    assert face.landmarks == ((1, 2), (3, 4))
    assert face.embedding == (1.0, 0.5)
    assert face.score is None
    assert read(Face, FACE | {"score": None}).score is None


def test_what_is_not_known_is_ignored_or_kept():
    assert read(Progress, {"total": 1, "done": 0, "new": 3}) == Progress(1, 0)
    assert read(Face, FACE | {"age": [1, 2]}).extra == {"age": [1, 2]}
    assert read(Cluster, {"cluster_id": "c", "size": 1, "subjects": {"a": 1}, "faces": []})


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "Face is not an object"),
        ({**FACE, "box": [1, 2, 3]}, "Face.box: not 4 values"),
        ({**FACE, "confidence": "high"}, "Face.confidence: not a number"),
        ({**FACE, "confidence": True}, "Face.confidence: not a number"),
        ({**FACE, "quality": {**QUALITY, "acceptable": 1}}, "acceptable: not of type bool"),
        ({**FACE, "embedding": [None]}, "Face.embedding"),
        ({"box": FACE["box"]}, "Face.landmarks is missing"),
    ],
)
def test_what_does_not_fit_is_named(document, message):
    with pytest.raises(ValueError, match=message):
        read(Face, document)


@pytest.mark.parametrize("text", ["2026-11-29T16:00:00.123Z", "2026-11-29T16:00:00.123+00:00"])
def test_moments(text):
    collection = read(
        Collection,
        {
            "name": "a", "description": "", "keep": "none", "quality": "off",
            "retention_days": None, "match_threshold": None, "faces": 0, "subjects": 0,
            "space": None, "dimension": None, "migration": None, "requires_consent": False,
            "created_at": text, "updated_at": text,
        },
    )  # fmt: skip
    assert collection.created_at == datetime(2026, 11, 29, 16, 0, 0, 123000, tzinfo=UTC)
    assert collection.request_id is None


def test_a_face_without_what_was_not_asked_for(monkeypatch):
    face = read(Face, FACE)
    with pytest.raises(ValueError, match="embedding"):
        face.vector()
    with pytest.raises(ValueError, match="crop"):
        face.crop_png()
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(ImportError, match=r"aurum-client\[numpy\]"):
        read(Face, FACE | {"embedding": [1]}).vector()


def test_refusals_by_code():
    body = {"code": "several_faces", "detail": "two", "request_id": "r", "title": "T"}
    error = read_error(httpx.Response(422, json=body))
    assert type(error) is FaceError
    assert str(error) == "several_faces: two (request r)"
    newer = read_error(httpx.Response(418, json=body | {"code": "teapot"}))
    assert type(newer) is ProblemError
    assert newer.status == 418


@pytest.mark.parametrize("text", ["<html>proxy error</html>", "[]", '{"a": 1}', ""])
def test_answers_of_others(text):
    error = read_error(httpx.Response(502, text=text))
    assert "not an answer of the service" in str(error)
    assert "502" in str(error)


def test_errors_cross_processes():
    for error in (
        FaceError(Problem("no_face", 422, "T", "D", "r"), 3.0),
        ServiceUnreachableError("gone", sent=True),
    ):
        copied = pickle.loads(pickle.dumps(error))
        assert (str(copied), copied.args) == (str(error), error.args)


def test_retry_after_is_a_number_or_a_date():
    assert read_retry_after("7") == 7
    assert read_retry_after("soon") is None
    assert read_retry_after(None) is None
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert read_retry_after(date) == pytest.approx(60, abs=3)
    assert read_retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0


def test_segments_of_a_path_are_quoted():
    assert path_of("a", "b/c?d%ü") == "/api/a/b%2Fc%3Fd%25%C3%BC"
    assert path_of("a", "..") == "/api/a/%2E%2E"
    assert path_of("a.b") == "/api/a.b"
    with pytest.raises(ValueError, match="empty"):
        path_of("a", "")
