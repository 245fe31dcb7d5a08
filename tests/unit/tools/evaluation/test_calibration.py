import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from gateway.errors import InvalidRequestError
from gateway.registry.calibration import Calibration, Calibrations, read_calibration
from tests.support.fake_inference import SPACE, FakeInference, photo
from tests.support.gateway_server import form, serving
from tools.errors import CalibrationError
from tools.evaluation.det_curve import draw_det
from tools.evaluation.pairs import read_pairs, read_ratings
from tools.evaluation.rates import measure_rates


def calibration(same, different, space: str = SPACE) -> Calibration:
    return Calibration(
        space=space,
        source="pairs.csv",
        source_sha256="ab" * 32,
        same_pairs=len(same),
        different_pairs=len(different),
        without_face=0,
        made_at="2026-01-01T00:00:00+00:00",
        rates=measure_rates(np.asarray(same, float), np.asarray(different, float)),
    )


def keep(repository: Path, found: Calibration, version: int = 1) -> None:
    folder = repository / "face_embedding" / str(version)
    folder.mkdir(parents=True)
    (folder / "calibration.json").write_text(found.model_dump_json())


def test_rates_are_those_of_counting():
    generator = np.random.default_rng(0)
    same, different = generator.normal(0.6, 0.15, 300), generator.normal(0.05, 0.12, 1500)
    same, different = np.clip(same, -1, 1), np.clip(different, -1, 1)
    for rate in measure_rates(same, different):
        assert rate.fmr == pytest.approx(np.mean(different >= rate.threshold))
        assert rate.fnmr == pytest.approx(np.mean(same < rate.threshold))


def test_the_threshold_for_a_rate_is_the_lowest_that_keeps_it():
    different = np.linspace(0, 0.999, 1000)
    found = calibration([0.9, 0.95], different)
    threshold = found.threshold_at(0.01)
    assert np.mean(different >= threshold) <= 0.01
    assert np.mean(different >= threshold - 0.0011) > 0.01
    assert found.threshold_at(1e-3) > threshold
    assert found.threshold_at(1e-4) is None, "1000 pairs do not tell one in 10,000"


def test_rates_stay_few_and_dense_where_few_match():
    different = np.random.default_rng(1).uniform(-1, 1, 50_000)
    rates = measure_rates(np.array([0.5]), different)
    assert len(rates) <= 400
    assert rates[-1].fmr == 0
    assert [rate.threshold for rate in rates] == sorted(rate.threshold for rate in rates)
    assert calibration([0.5], different).threshold_at(1e-4) == pytest.approx(0.9998, abs=2e-4)


def test_a_target_needs_enough_pairs(tmp_path):
    keep(tmp_path, calibration([0.9], np.linspace(0, 0.5, 100)))
    known = Calibrations(tmp_path)
    assert known.threshold(SPACE, target_fmr=0.05, otherwise=0.3) == pytest.approx(0.475, abs=0.01)
    # the default of one in a thousand cannot be told, so the setting is taken
    assert known.threshold(SPACE, target_fmr=None, otherwise=0.3) == 0.3
    with pytest.raises(InvalidRequestError, match=r"100 pairs .* give rates from 0\.01"):
        known.threshold(SPACE, target_fmr=0.001, otherwise=0.3)
    with pytest.raises(InvalidRequestError, match="have no calibration"):
        known.threshold("0" * 16, target_fmr=0.1, otherwise=0.3)


def test_a_new_calibration_is_seen_after_a_while(tmp_path):
    now = 0.0
    known = Calibrations(tmp_path, clock=lambda: now)
    assert known.of_space(SPACE) is None
    keep(tmp_path, calibration([0.9], [0.1]))
    assert known.of_space(SPACE) is None
    now = 11.0
    assert known.of_space(SPACE) is not None


def test_what_is_no_calibration_is_passed_over(tmp_path):
    (tmp_path / "calibration.json").write_text("{}")
    assert read_calibration(tmp_path) is None
    assert read_calibration(tmp_path / "none") is None


async def test_verify_takes_a_target_and_else_one_in_a_thousand(tmp_path):
    different = np.linspace(0, 0.4, 2000)
    keep(tmp_path, calibration([0.9, 0.95], different))
    async with serving(FakeInference(), model_repository=tmp_path, home=tmp_path / "h") as session:

        async def verify(query: str = "", status: int = 200) -> dict[str, object]:
            body = form(image_a=photo(), image_b=photo())
            async with session.post(f"/api/ml/verify{query}", data=body) as response:
                assert response.status == status, await response.text()
                return await response.json()

        assert (await verify())["threshold"] == pytest.approx(0.3997, abs=2e-4)
        assert (await verify("?target_fmr=0.1"))["threshold"] == pytest.approx(0.36, abs=1e-3)
        assert (await verify("?threshold=0.5"))["threshold"] == 0.5
        assert "give rates from" in (await verify("?target_fmr=0.00001", 400))["detail"]
        assert "send one" in (await verify("?target_fmr=0.1&threshold=0.5", 400))["detail"]
        async with session.get("/api/ml/models") as response:
            stages = (await response.json())["stages"]
        shown = next(s for s in stages if s["name"] == "face_embedding")["versions"][0]
        assert shown["calibration"]["different_pairs"] == 2000
        rates = [rate["fmr"] for rate in shown["calibration"]["rates"]]
        assert rates == pytest.approx([0.1, 0.01, 0.001], rel=0.06)


def write(tmp_path: Path, text: str) -> Path:
    (tmp_path / "a.jpg").write_bytes(b"a")
    (tmp_path / "b.jpg").write_bytes(b"b")
    path = tmp_path / "labels.csv"
    path.write_text(text)
    return path


def test_pairs_are_read_relative_to_their_file(tmp_path):
    path = write(tmp_path, "image_a,image_b,same\na.jpg,b.jpg,1\nb.jpg,a.jpg,no\n")
    assert [(p.a.name, p.b.name, p.same) for p in read_pairs(path)] == [
        ("a.jpg", "b.jpg", True),
        ("b.jpg", "a.jpg", False),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n", "begins with 'a,b'"),
        ("image_a,image_b,same\na.jpg,b.jpg,maybe\n", "csv:2: same is 'maybe'"),
        ("image_a,image_b,same\na.jpg,c.jpg,1\n", r"csv:2: there is no photo .*c\.jpg"),
    ],
)
def test_wrong_pairs_are_named_by_line(tmp_path, text, message):
    with pytest.raises(CalibrationError, match=message):
        read_pairs(write(tmp_path, text))


def test_ratings_are_read_and_wrong_ones_named(tmp_path):
    path = write(tmp_path, "image,rating\na.jpg,7.5\n")
    assert read_ratings(path) == [(tmp_path / "a.jpg", 7.5)]
    for text in ("image,rating\na.jpg,11\n", "image,rating\na.jpg,x\n"):
        with pytest.raises(CalibrationError, match="csv:2: rating"):
            read_ratings(write(tmp_path, text))


def test_the_curve_is_drawn(tmp_path):
    generator = np.random.default_rng(0)
    found = calibration(generator.uniform(0.2, 0.9, 300), generator.uniform(-0.3, 0.4, 5000))
    draw_det(found, tmp_path / "det.png")
    image = cv2.imread(str(tmp_path / "det.png"))
    assert image.shape == (640, 640, 3)
    curve = (image == (180, 90, 20)).all(axis=2)
    assert curve.sum() > 100
    # fewer errors of one kind are more of the other: the curve falls from left to right
    columns = np.flatnonzero(curve.any(axis=0))
    rows = [np.flatnonzero(curve[:, column]).mean() for column in columns]
    assert rows[0] < rows[-1]


def test_calibrations_survive_a_round_trip():
    found = calibration([0.9], [0.1, 0.2])
    assert Calibration.model_validate(json.loads(found.model_dump_json())) == found
