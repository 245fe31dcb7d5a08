import asyncio
import math
from dataclasses import replace

import numpy as np
import pytest

from gateway.concurrency import BackgroundTasks
from gateway.errors import InferenceUnavailableError
from gateway.monitoring import golden_probe
from gateway.monitoring.golden_probe import (
    NEED,
    PORTRAIT,
    GoldenProbe,
    Report,
    answer_parts,
)
from gateway.monitoring.lease import LocalLease
from gateway.registry.reference import References
from gateway.telemetry.metrics import Metrics
from gateway.types import Analysis, EngineStatus, Need, Weights
from tests.support.fake_inference import expected_face
from tests.unit.gateway.monitoring.test_drift import place
from tests.unit.tools.evaluation.test_references import reference

D, E, H = "d" * 16, "e" * 16, "f" * 16
FACE = expected_face(0, 0, Need.EMBEDDING | Need.SCORE)
KNOWN = Analysis(
    (FACE,),
    {
        "face_detection": Weights(D, "1"),
        "face_embedding": Weights(E, "1"),
        "face_scoring": Weights(H, "1"),
    },
)


def moved(*, embedding=FACE.embedding, score=FACE.score, other: str = "", **changes) -> Analysis:
    """The known answer with another face; `other` is a stage with other weights."""
    face = replace(FACE, **changes).with_outputs(embedding=embedding, score=score)
    weights = {**KNOWN.weights, **({other: Weights("9" * 16, "2")} if other else {})}
    return replace(KNOWN, faces=(face,), weights=weights)


class Engine:
    """An engine that returns given answers to every request."""

    def __init__(self, answer, *, starting: int = 0) -> None:
        self.answer = answer
        self.asked = []
        self.starting = starting

    async def status(self, *, deadline):
        self.starting -= 1
        if self.starting == 0:
            raise InferenceUnavailableError("Triton is starting")
        return EngineStatus(self.starting < 0, "", ())

    async def analyse(self, image, *, need, deadline):
        self.asked.append((image, need))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def watch(tmp_path, engine, *, turns=None, seconds: float = 60.0, **more) -> GoldenProbe:
    return GoldenProbe(
        engine,
        References(tmp_path / "repository", clock=iter(range(0, 10**6, 60)).__next__),
        Metrics().portrait,
        turns or LocalLease(),
        firsts=tmp_path / "portrait.json",
        interval_seconds=seconds,
        **more,
    )


def with_golden(tmp_path, analysis: Analysis = KNOWN) -> None:
    before: dict[str, str] = {}
    for stage, (key, values) in answer_parts(analysis).items():
        identifier = key.split("-")[-1]
        made = reference(identifier, made_with=dict(before), portrait=values)
        place(tmp_path / "repository", stage, made)
        before[stage] = identifier


async def test_the_probe_sends_the_portrait_and_requests_everything(tmp_path):
    engine = Engine(KNOWN)
    await watch(tmp_path, engine).send()
    await watch(tmp_path, engine, need=NEED & ~Need.SCORE).send()
    assert engine.asked == [
        (PORTRAIT.read_bytes(), Need.EMBEDDING | Need.SCORE),
        (PORTRAIT.read_bytes(), Need.EMBEDDING),
    ]


async def test_drift_is_the_difference_to_the_golden_answer(tmp_path):
    with_golden(tmp_path)
    engine = Engine(KNOWN)
    portrait = watch(tmp_path, engine)
    same = await portrait.send()
    assert same.golden == {"face_detection": True, "face_embedding": True, "face_scoring": True}
    assert (same.box_pixels, same.landmark_pixels) == (0, 0)
    assert same.moved == {"embedding": 0, "score": 0}
    assert same.trouble is None

    left, top, right, bottom = FACE.box
    points = ((FACE.landmarks[0][0] + 3, FACE.landmarks[0][1] - 4), *FACE.landmarks[1:])
    turned = np.zeros_like(FACE.embedding)
    turned[0], turned[1] = 0.6, 0.8
    engine.answer = moved(
        box=(left, top - 1.5, right, bottom + 2.5),
        landmarks=points,
        confidence=FACE.confidence - 0.2,
        embedding=turned,
        score=FACE.score + 0.5,
    )
    found = await portrait.send()
    assert found.box_pixels == pytest.approx(2.5)
    assert found.landmark_pixels == pytest.approx(5)
    assert found.confidence == pytest.approx(-0.2)
    assert found.moved["embedding"] == pytest.approx(0.4)
    assert found.moved["score"] == pytest.approx(0.5)
    assert found.trouble == (
        "box moved by 2.5 px; landmarks moved by 5 px; confidence moved by -0.2; "
        "embedding moved by 0.4; score moved by 0.5"
    )


async def test_a_swap_is_no_drift(tmp_path):
    with_golden(tmp_path)
    engine = Engine(KNOWN)
    portrait = watch(tmp_path, engine)
    await portrait.send()
    engine.answer = moved(embedding=-FACE.embedding, score=9.0, other="face_embedding")
    found = await portrait.send()
    assert found.trouble is None
    assert found.golden == {"face_detection": True, "face_embedding": False, "face_scoring": False}
    engine.answer = moved(embedding=-FACE.embedding, score=8.0, other="face_embedding")
    assert (await portrait.send()).moved["score"] == -1.0, "against its own first answer"


async def test_another_detector_causes_no_drift_of_the_embedding(tmp_path):
    """Its crops differ: the golden embedding belongs to the crops of the previous detector."""
    with_golden(tmp_path)
    engine = Engine(moved(embedding=-FACE.embedding, other="face_detection"))
    found = await watch(tmp_path, engine).send()
    assert not any(found.golden.values())
    assert found.trouble is None


async def test_the_first_answer_survives_a_restart(tmp_path):
    await watch(tmp_path, Engine(KNOWN)).send()
    portrait = watch(tmp_path, Engine(moved(score=FACE.score + 2)), seconds=0.05)
    async with BackgroundTasks() as background, portrait.running(background):
        while portrait.last is None:
            await asyncio.sleep(0.01)
    assert portrait.last.moved["score"] == 2


async def test_the_first_report_waits_for_an_engine_that_is_starting(tmp_path, monkeypatch):
    monkeypatch.setattr(golden_probe, "_POLL_SECONDS", 0.01)
    engine = Engine(KNOWN, starting=3)
    portrait = watch(tmp_path, engine)
    async with BackgroundTasks() as background, portrait.running(background):
        while portrait.last is None:
            await asyncio.sleep(0.01)
    assert engine.starting == -1
    assert portrait.last.outcome == "ok"


async def test_an_engine_that_does_not_start_is_reported_after_an_interval(tmp_path, monkeypatch):
    monkeypatch.setattr(golden_probe, "_POLL_SECONDS", 0.01)
    engine = Engine(InferenceUnavailableError("Triton is away"), starting=10**6)
    portrait = watch(tmp_path, engine, seconds=0.05)
    async with BackgroundTasks() as background, portrait.running(background):
        while portrait.last is None:
            await asyncio.sleep(0.01)
    assert portrait.last.outcome == "inference_unavailable"


async def test_a_head_of_another_space_is_no_drift(tmp_path):
    with_golden(tmp_path)
    found = await watch(tmp_path, Engine(moved(score=math.nan))).send()
    assert "score" not in found.moved
    assert found.trouble is None
    assert set(found.golden) == {"face_detection", "face_embedding"}


@pytest.mark.parametrize(
    ("answer", "outcome", "trouble"),
    [
        (replace(KNOWN, faces=()), "no_face", "shows no face"),
        (
            InferenceUnavailableError("gone", retry_after_seconds=1),
            "inference_unavailable",
            "inference_unavailable",
        ),
    ],
)
async def test_failures_are_reported(tmp_path, answer, outcome, trouble):
    engine = Engine(KNOWN)
    portrait = watch(tmp_path, engine)
    registry = portrait._metrics.runs
    await portrait.turn()
    assert portrait.last is not None
    success = portrait._metrics._success._value.get()
    engine.answer = answer
    await portrait.turn()
    assert (portrait.last.outcome, portrait.last.trouble) == (outcome, trouble)
    assert math.isnan(portrait._metrics._gauges["box_pixels"]._value.get())
    assert math.isnan(portrait._metrics._moved["score"]._value.get())
    assert portrait._metrics._success._value.get() == success
    assert registry.labels(outcome)._value.get() == 1


async def test_a_disabled_probe_sends_nothing(tmp_path):
    engine = Engine(KNOWN)
    portrait = watch(tmp_path, engine, seconds=0)
    async with BackgroundTasks() as background, portrait.running(background):
        await asyncio.sleep(0.05)
    assert engine.asked == []
    assert not portrait.switched_on


async def test_an_old_report_is_ignored(tmp_path):
    portrait = watch(tmp_path, Engine(KNOWN))
    await portrait.turn()
    portrait._last = portrait._last.model_copy(update={"at": portrait._last.at - 200})
    assert portrait.last is None


def test_a_report_keeps_unknown_values():
    report = Report(at=1.0, seconds=0.1, outcome="ok", firsts={"a": (1.5, 2.5)})
    again = Report.model_validate_json(report.model_dump_json())
    assert math.isnan(again.box_pixels)
    assert again.firsts == {"a": (1.5, 2.5)}
