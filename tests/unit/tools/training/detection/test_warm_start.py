"""Training continues from the file of a detector, also with a larger network."""

from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="PyTorch (extra `train`) is not installed")

from gateway.settings import CHECKOUT  # noqa: E402
from tests.support.onnx_files import HALVES, large_weights  # noqa: E402
from tools.importing.graph.average_landmarks import AVERAGED, PROPERTY  # noqa: E402
from tools.importing.network import load_network  # noqa: E402
from tools.training.detection.export import export  # noqa: E402
from tools.training.detection.network import Block, LiteDetector, NetConfig, flatten  # noqa: E402
from tools.training.detection.warm_start import read_detector  # noqa: E402
from tools.training.net2net import grow  # noqa: E402

SMALL = NetConfig(stem=8, widths=(8, 12, 16), blocks=(1, 2, 1), neck=8)
WIDE = NetConfig(stem=12, widths=(16, 12, 24), blocks=(2, 2, 3), neck=16)


@pytest.fixture
def images():
    torch.set_num_threads(1)
    torch.manual_seed(3)
    return torch.rand(2, 3, 96, 96) * 2 - 1


def assert_same(left: LiteDetector, right: LiteDetector, images, *, within: float) -> None:
    with torch.no_grad():
        pairs = zip(flatten(left.eval()(images)), flatten(right.eval()(images)), strict=True)
        for one, other in pairs:
            torch.testing.assert_close(one, other, atol=within, rtol=1e-3)


@pytest.mark.parametrize(
    "config",
    [SMALL, WIDE, replace(SMALL, dense=(True, False, False)), replace(SMALL, stem_kernel=3)],
)
def test_an_exported_network_is_read_back(tmp_path: Path, images, config):
    model = LiteDetector(config)
    with torch.no_grad():
        for weight in model.parameters():  # no two are equal, as in trained networks
            weight.add_(torch.randn_like(weight) * 0.05)
    model.train()(images)  # gives the norms statistics
    export(model.eval(), tmp_path / "raw.onnx")
    assert large_weights(tmp_path / "raw.onnx") == HALVES
    assert load_network(tmp_path / "raw.onnx").metadata(PROPERTY) == AVERAGED
    again = read_detector(tmp_path / "raw.onnx", images)
    assert again.config == config
    assert_same(again, model, images, within=1e-4)


def test_the_built_in_network_is_read_as_imported(images):
    model = read_detector(CHECKOUT / "model_repository/face_detection/1/model.onnx", images)
    assert sum(weight.numel() for weight in model.parameters()) > 400_000


def test_a_larger_network_answers_the_same_and_then_learns(images):
    small = LiteDetector(SMALL)
    small.train()(images)
    wide = LiteDetector(WIDE)
    grow(small.eval(), wide, block=Block)
    # new blocks add `BARELY` to their input
    assert_same(wide, small, images, within=0.2)
    flatten(wide.train()(images))[1].square().mean().backward()
    fresh = wide.stages[2][3].body[1].weight.grad
    assert fresh is not None
    assert fresh.abs().max() > 0
    assert wide.heads[0].out.weight.grad[:, SMALL.neck :].abs().max() > 0


def test_a_smaller_network_cannot_start_from_a_larger_one():
    with pytest.raises(ValueError, match="narrower"):
        grow(LiteDetector(replace(SMALL, neck=16)), LiteDetector(SMALL), block=Block)
    with pytest.raises(ValueError, match=r"no layer stages\.0\.2"):
        grow(LiteDetector(replace(SMALL, blocks=(2, 2, 1))), LiteDetector(SMALL), block=Block)
