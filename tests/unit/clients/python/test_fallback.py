"""When the fallback answers, and when the service is asked again."""

import io
import sys
from typing import Any

import pytest
from aurum_client import (
    AurumClient,
    FaceOptions,
    Problem,
    ServiceUnreachableError,
    TimeLimitError,
    UnavailableError,
    UnexpectedAnswerError,
)
from aurum_client.errors import FAMILIES
from aurum_client.fallback import HealthGate, means_unhealthy
from aurum_client.images import read_picture
from aurum_client.local import LocalEngine


def problem(code: str, status: int) -> Any:
    return FAMILIES[code](Problem(code, status, "T", "D", "r"))


@pytest.mark.parametrize(
    ("error", "unhealthy"),
    [
        (ServiceUnreachableError("refused", sent=False), True),
        (TimeLimitError("read"), True),
        (UnexpectedAnswerError("a page", 502), True),
        (problem("inference_unavailable", 503), True),
        (problem("storage_unavailable", 503), False),
        (problem("rate_limited", 429), False),
        (problem("no_face", 422), False),
        (problem("internal", 500), False),
        (UnexpectedAnswerError("a page", 404), False),
    ],
)
def test_what_means_that_the_service_is_unhealthy(error, unhealthy):
    assert means_unhealthy(error) == unhealthy


def test_one_caller_checks_at_a_time(monkeypatch):
    now = 100.0
    monkeypatch.setattr("aurum_client.fallback.time.monotonic", lambda: now)
    gate = HealthGate(5)
    assert gate.is_healthy
    assert not gate.claim_check()
    gate.report_failure()
    assert not gate.is_healthy
    assert not gate.claim_check()
    now = 105.0
    assert gate.claim_check()
    assert not gate.claim_check()
    now = 110.0
    assert gate.claim_check()
    gate.report_success()
    assert gate.is_healthy


def test_a_service_that_does_not_answer_costs_one_call_its_time():
    answers: list[str] = []

    class Local:
        def score(self, image: bytes, options: FaceOptions) -> Any:
            raise UnavailableError(Problem("inference_unavailable", 503, "T", "local", "r"))

        detect = embed = score

    # a port that nobody listens on
    with AurumClient("http://127.0.0.1:9", fallback=Local(), check_seconds=60) as client:
        assert not client.uses_fallback
        for _ in range(2):
            with pytest.raises(UnavailableError, match="local"):
                client.score(b"x")
            answers.append("local")
        assert client.uses_fallback
        assert client.with_options().uses_fallback


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"\x89PNG\r\n\x1a\n..", "image/png"),
        (b"RIFF....WEBP", "image/webp"),
        (b"BM..", "image/bmp"),
        (b"GIF89a", "image/x-unknown"),
    ],
)
def test_the_media_type_follows_from_the_bytes(data, media_type):
    assert read_picture(data).media_type == media_type


def test_images_of_a_wrong_kind():
    with pytest.raises(TypeError, match="binary mode"):
        read_picture(io.StringIO("text"))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not int"):
        read_picture(3)  # type: ignore[arg-type]


def test_the_local_engine_needs_the_server(monkeypatch, tmp_path):
    # as if nothing had imported it yet
    monkeypatch.delitem(sys.modules, "aurum_client._ensemble", raising=False)
    monkeypatch.setitem(sys.modules, "gateway.inference.local", None)
    with pytest.raises(ImportError, match=r"pip install 'aurum\[gateway,models\]'"):
        LocalEngine(tmp_path)


def test_the_local_engine_needs_networks(tmp_path):
    with pytest.raises(ValueError, match="has no version"):
        LocalEngine(tmp_path)
