import pytest

from gateway.errors import InvalidRequestError
from gateway.registry.calibration import CALIBRATION_FILE, Calibration, Calibrations, Rate

A, B = "a" * 16, "b" * 16


def write(repository, version: str, space: str, threshold: float) -> None:
    folder = repository / "face_embedding" / version
    folder.mkdir(parents=True)
    calibration = Calibration(
        space=space,
        source="pairs.csv",
        source_sha256="0" * 64,
        same_pairs=9000,
        different_pairs=90000,
        without_face=0,
        made_at="2026-11-29T12:00:00+00:00",
        rates=(Rate(threshold=threshold, fmr=0.001, fnmr=0.1),),
    )
    (folder / CALIBRATION_FILE).write_text(calibration.model_dump_json())


def test_each_space_has_its_own_threshold(tmp_path):
    write(tmp_path, "1", A, 0.3)
    write(tmp_path, "2", B, 0.5)
    known = Calibrations(tmp_path)
    chosen = [known.threshold(space, target_fmr=0.001, otherwise=0.4) for space in (A, B)]
    assert chosen == [0.3, 0.5]


def test_a_space_without_a_calibration_has_only_the_usual_threshold(tmp_path):
    write(tmp_path, "1", A, 0.3)
    known = Calibrations(tmp_path)
    assert known.threshold(B, target_fmr=None, otherwise=0.4) == 0.4
    with pytest.raises(InvalidRequestError):
        known.threshold(B, target_fmr=0.001, otherwise=0.4)
