import io
import json
import math
import tarfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from gateway.registry.reference import (
    MEASURES,
    REFERENCE_FILE,
    Histogram,
    Reference,
    References,
    psi,
    read_reference,
)
from gateway.settings import CHECKOUT
from tests.support import photos
from tests.support.serving import add_shipped_weights, copy_repository
from tools.__main__ import app
from tools.errors import WeightsError
from tools.evaluation.photos import sample
from tools.evaluation.references import histogram, measure
from tools.golden.__main__ import held_out
from triton_python_backend.contract import ONNX_STAGES

TENTHS = (0.1,) * 10


def reference(identifier: str = "a" * 16, **changes: object) -> Reference:
    fields = {
        "id": identifier,
        "made_with": {},
        "photos": "some",
        "faces": 1000,
        "made_at": "2026-01-01T00:00:00+00:00",
        "measures": {"confidence": {"edges": [0.7], "shares": [0.5, 0.5]}},
    }
    return Reference.model_validate({**fields, **changes})


def test_the_index_of_two_bins_is_what_the_formula_says():
    # 1 face more in each bin of 3 of 10 against 5 of 10
    p, q = (3.5 / 11, 7.5 / 11), (5.5 / 11, 5.5 / 11)
    by_hand = sum((a - b) * math.log(a / b) for a, b in zip(p, q, strict=True))
    assert psi([3, 7], [0.5, 0.5]) == pytest.approx(by_hand)
    assert by_hand == pytest.approx(0.1385, abs=1e-4)


def test_the_same_shares_have_no_index_and_all_in_one_bin_a_large_one():
    assert psi([30] * 10, TENTHS) == pytest.approx(0)
    assert psi([300] + [0] * 9, TENTHS) > 2


@given(st.lists(st.integers(0, 500), min_size=10, max_size=10).filter(any))
def test_the_index_is_never_negative(counts):
    assert psi(counts, TENTHS) >= -1e-12


def test_chance_alone_stays_below_what_counts_as_drift():
    generator = np.random.default_rng(1)
    found = [psi(generator.multinomial(200, TENTHS).tolist(), TENTHS) for _ in range(300)]
    assert np.mean(found) == pytest.approx(9 / 200, rel=0.2)
    assert np.quantile(found, 0.99) < 0.25


def test_a_histogram_has_bins_of_equal_shares():
    made = histogram(np.random.default_rng(0).normal(size=5000).tolist())
    np.testing.assert_allclose(made.shares, 0.1, atol=0.001)
    assert made.edges[4] == pytest.approx(0, abs=0.05)
    assert (made.bin(-9), made.bin(9), made.bin(made.edges[3])) == (0, 9, 4)


def test_values_that_are_often_the_same_make_fewer_bins():
    made = histogram([1.0] * 900 + [0.5] * 100)
    assert made.shares == (0.1, 0.9)
    assert histogram([1.0] * 50).shares == (1.0,)
    assert psi([50], histogram([1.0] * 50).shares) == 0


@pytest.mark.parametrize(
    "wrong", [{"edges": [1], "shares": [1]}, {"edges": [2, 1], "shares": [0.3, 0.3, 0.4]}]
)
def test_a_histogram_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match="edges"):
        Histogram.model_validate(wrong)


def test_references_are_found_by_the_id_of_the_weights_and_read_anew(tmp_path):
    folder = tmp_path / "face_detection" / "3"
    folder.mkdir(parents=True)
    now = [0.0]
    references = References(tmp_path, clock=lambda: now[0])
    assert references.of("face_detection", "a" * 16) is None
    (folder / REFERENCE_FILE).write_text(reference().model_dump_json())
    assert references.of("face_detection", "a" * 16) is None, "read again after ten seconds"
    now[0] = 11
    assert references.of("face_detection", "a" * 16) == reference()
    assert references.of("face_embedding", "a" * 16) is None
    assert references.of("face_detection", "b" * 16) is None


def test_a_reference_that_cannot_be_read_is_none(tmp_path, caplog):
    assert read_reference(tmp_path) is None
    (tmp_path / REFERENCE_FILE).write_text("{}")
    assert read_reference(tmp_path) is None
    assert "reference not readable" in caplog.text


def test_the_shipped_references_are_of_the_shipped_weights():
    ids = {}
    for stage in ONNX_STAGES:
        folder = CHECKOUT / "model_repository" / stage.name / "1"
        found = read_reference(folder)
        ids[stage.name] = json.loads((folder / "model.json").read_text())["id"]
        again = "measure again: python -m tools.golden model_repository --photos FOLDER"
        assert found is not None, again
        assert found.id == ids[stage.name], again
        assert found.made_with == {name: ids[name] for name in found.made_with}, again
        assert set(found.measures) == set(MEASURES[stage.name])
        assert found.faces >= 1000
        assert found.portrait


def test_photos_are_taken_evenly_from_folders_and_archives(tmp_path):
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    for number in range(6):
        (folder / "deep" / f"{number}.jpg").write_bytes(b"f%d" % number)
    (folder / "notes.txt").write_text("no photo")
    with tarfile.open(tmp_path / "more.tar", "w") as archive:
        for number in range(4):
            entry = tarfile.TarInfo(f"in/{number}.png")
            data = b"t%d" % number
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    sources = [folder, tmp_path / "more.tar"]
    assert [data for _, data in sample(sources, most=100)] == [
        *(b"f%d" % number for number in range(6)),
        *(b"t%d" % number for number in range(4)),
    ]
    assert [data for _, data in sample(sources, most=3)] == [b"f0", b"f4", b"t2"]
    with pytest.raises(WeightsError, match="no photos"):
        next(sample([tmp_path / "nowhere"], most=1))
    (tmp_path / "bad.tar").write_bytes(b"x")
    with pytest.raises(WeightsError, match="cannot be read"):
        next(sample([tmp_path / "bad.tar"], most=1))


def test_too_few_faces_make_no_reference():
    portrait = [("a.png", photos.PORTRAIT.read_bytes()), ("b.png", b"no image")]
    repository = CHECKOUT / "model_repository"
    with pytest.raises(WeightsError, match="show 1 faces; 200 are needed"):
        measure(repository, portrait, told="one")
    found = measure(repository, portrait, told="one", fewest=1)
    assert found["face_embedding"].faces == 1
    # the mean of one face is that face
    assert found["face_embedding"].measures["cosine_to_mean"].shares == (1.0,)


def test_the_command_measures_the_versions_in_service(tmp_path, monkeypatch):
    repository = tmp_path / "repository"
    copy_repository(repository)
    assert add_shipped_weights(repository)
    for path in repository.glob(f"*/1/{REFERENCE_FILE}"):
        path.unlink()
    sheets = tmp_path / "sheets"
    sheets.mkdir()
    for number in range(12):
        sheet = photos.crowd(5, 6, first=60 + number, step=3)
        (sheets / f"{number}.jpg").write_bytes(photos.encode(sheet, "JPEG"))
    monkeypatch.setenv("AURUM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AURUM_MODEL_REPOSITORY", str(repository))

    def run(*arguments: str):
        return CliRunner().invoke(app, ["models", "reference", str(sheets), *arguments])

    refused = run("--most", "2")
    assert refused.exit_code == 1
    assert "faces; 200 are needed" in refused.stderr
    done = run("--told", "thirty times the portrait")
    assert done.exit_code == 0, done.output
    shipped = CHECKOUT / "model_repository"
    for stage in ONNX_STAGES:
        made = read_reference(repository / stage.name / "1")
        known = read_reference(shipped / stage.name / "1")
        assert made is not None
        assert (made.id, made.made_with) == (known.id, known.made_with)
        assert made.portrait == pytest.approx(known.portrait, abs=0.2)
        assert made.photos == "thirty times the portrait"
        assert not list((repository / stage.name).glob(".*"))
    faces = {read_reference(repository / stage.name / "1").faces for stage in ONNX_STAGES}
    assert 200 <= faces.pop() <= 360
    # the same person over and over: near the mean of all
    cosines = read_reference(repository / "face_embedding" / "1").measures["cosine_to_mean"]
    assert cosines.edges[0] > 0.5


def test_photos_held_out_of_training_are_chosen_by_name(tmp_path):
    def archive(name: str, files: dict[str, bytes]) -> None:
        with tarfile.open(tmp_path / name, "w") as tar:
            for member, data in files.items():
                entry = tarfile.TarInfo(member)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))

    listed = b"image,score\nfemale/asian/1.jpg,5\n"
    archive(
        "mebeauty_x.tar",
        {
            "mebeauty/test.csv": listed,
            "mebeauty/images/female/asian/1.jpg": b"in",
            "mebeauty/images/female/asian/2.jpg": b"out",
        },
    )
    archive("utkface_x.tar", {f"utkface/{n}.jpg": b"%d" % n for n in range(1000)})
    archive("scenes_x.tar", {f"scenes/{n}.jpg": b"s%d" % n for n in range(300)})
    chosen = [data for _, data in held_out(tmp_path)]
    assert chosen[0] == b"in"
    assert b"out" not in chosen
    scenes = sum(data.startswith(b"s") for data in chosen)
    assert scenes == pytest.approx(100, abs=30)
    assert len(chosen) - scenes - 1 == pytest.approx(50, abs=25)
