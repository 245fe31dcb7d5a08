"""A head from rated photos, with a fake gateway that computes answers from the photos."""

import asyncio
import json

import onnxruntime

from tests.support.command_line import Finished, run_in_process
from tests.support.fake_inference import DIMENSION, SPACE, FakeInference, photo
from tests.support.gateway_server import serving


async def train(tmp_path, count: int) -> Finished:
    """Rate photos by the axis that the fake embeds them on; the last shows no face."""
    lines = ["image,rating"]
    for number in range(count):
        (tmp_path / f"{number}.png").write_bytes(photo(seed=number % DIMENSION))
        lines.append(f"{number}.png,{1 + number % DIMENSION}")
    (tmp_path / "none.png").write_bytes(photo(faces=0))
    (tmp_path / "ratings.csv").write_text("\n".join([*lines, "none.png,5", ""]))
    async with serving(FakeInference(), home=tmp_path / "home") as session:
        url = str(session._base_url).rstrip("/")
        return await asyncio.to_thread(
            run_in_process,
            ["heads", "train", "ratings.csv", "--url", url],
            environment={"PATH": "/usr/bin:/bin"},
            folder=tmp_path,
        )


async def test_a_head_learns_the_ratings(tmp_path):
    done = await train(tmp_path, 48)
    assert done.returncode == 0, done.stderr
    assert "aurum models import --scoring head.onnx" in done.stdout
    card = json.loads((tmp_path / "head.json").read_text())
    assert (card["faces"], card["without_face"], card["space"]) == (48, 1, SPACE)
    assert card["cross_validated"]["pearson"] > 0.95
    assert card["cross_validated"]["mae"] < 0.5 < card["cross_validated"]["mae_of_the_mean"]
    session = onnxruntime.InferenceSession(tmp_path / "head.onnx")
    assert session.get_modelmeta().custom_metadata_map["aurum.space"] == SPACE
    assert session.get_inputs()[0].shape[1] == DIMENSION


async def test_too_few_photos_are_refused(tmp_path):
    done = await train(tmp_path, 5)
    assert done.returncode == 1
    assert "5 rated photos show a face; 20 are needed" in done.stderr
