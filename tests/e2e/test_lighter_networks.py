"""The networks in service are made lighter, answer from real Triton, and are taken back."""

import numpy as np
import pytest
import requests

from tests.support import photos
from tests.support.serving import aurum
from tools.quantization.quantize import MIN_COSINE


def embed(served) -> tuple[dict[str, str], dict]:
    """Versions and space that answered about the portrait, and its one face."""
    answer = requests.post(
        f"{served.url}/api/ml/embed", files={"image": photos.PORTRAIT.read_bytes()}, timeout=60
    )
    assert answer.status_code == 200, answer.text
    (face,) = answer.json()["faces"]
    return answer.json()["models"], face


def run(served, *words: str) -> str:
    done = aurum(served.settings, "models", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_lighter_networks_answer_beside_the_float_ones_and_go_again(changed, precision):
    before, face = embed(changed)
    said = run(changed, "import", f"--{precision}")
    after, light = embed(changed)
    for stage in ("detection", "embedding"):
        assert f"face_{stage} {after[stage]} answers after" in said
        assert int(after[stage]) > int(before[stage])
    assert after["space"] != before["space"]
    cosine = float(np.dot(face["embedding"], light["embedding"]))
    # other arithmetic gives other last digits: the lighter network is what answered
    assert MIN_COSINE <= cosine < 1
    assert face["embedding"] != light["embedding"]
    np.testing.assert_allclose(light["box"], face["box"], atol=2)
    assert light["confidence"] == pytest.approx(face["confidence"], abs=0.05)
    run(changed, "rollback", "detection", "embedding")
    back, same = embed(changed)
    assert back == before
    np.testing.assert_array_equal(same["embedding"], face["embedding"])
