"""A detector made faster by removing its last block."""

import copy
import itertools

import pytest

torch = pytest.importorskip("torch", reason="PyTorch (extra `train`) is not installed")

from tools.training.common import Budget  # noqa: E402
from tools.training.detection import prune_depth  # noqa: E402
from tools.training.detection.export import export  # noqa: E402
from tools.training.detection.network import LiteDetector, NetConfig, flatten  # noqa: E402
from tools.training.detection.prune_depth import learn, shortened, unlikeness  # noqa: E402
from tools.training.detection.warm_start import read_detector  # noqa: E402

CONFIG = NetConfig(stem=8, widths=(8, 12, 16), blocks=(1, 1, 2), neck=8)


@pytest.fixture
def images():
    torch.set_num_threads(1)
    torch.manual_seed(2)
    return torch.rand(4, 3, 96, 96) * 2 - 1


@pytest.fixture
def before(images) -> LiteDetector:
    model = LiteDetector(CONFIG)
    with torch.no_grad():
        for head in model.heads:
            head.out.bias[:2] = 0  # rows have scores, so that boxes and landmarks matter
        for weight in model.parameters():  # no two are equal, as in trained networks
            weight.add_(torch.randn_like(weight) * 0.05)
    model.train()(images)  # gives the norms statistics
    return model.eval()


def test_only_the_last_block_is_removed(tmp_path, before, images):
    model = shortened(before)
    assert [len(stage) for stage in before.stages] == [2, 2, 3]
    assert [len(stage) for stage in model.stages] == [2, 2, 2]
    deep, shallow = before.features(images)[2], model.features(images)[2]
    assert not torch.allclose(deep, shallow)
    export(model, tmp_path / "raw.onnx")
    again = read_detector(tmp_path / "raw.onnx", images)
    assert again.config == model.config
    for one, other in zip(flatten(again(images)), flatten(model(images)), strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-2)


def test_the_rest_learns_to_answer_as_before(before, images):
    assert unlikeness(shortened(before), before, images) > 0
    assert unlikeness(before, before, images).item() == 0
    model = shortened(before)
    at_first = unlikeness(model, before, images).item()
    norms = {name: value.clone() for name, value in model.named_buffers()}
    steps = learn(model, before, itertools.repeat(images), budget=Budget(steps=60), rate=3e-3)
    last = list(steps)[-1]
    assert last[0] == 60
    assert unlikeness(model, before, images).item() < 0.7 * at_first
    for name, value in model.named_buffers():
        torch.testing.assert_close(value, norms[name])
    # the teacher is unchanged
    assert unlikeness(before, before, images).item() == 0


@pytest.mark.parametrize("row", [0, 2, 10])
def test_scores_boxes_and_landmarks_each_count(before, images, row):
    other = copy.deepcopy(before)
    with torch.no_grad():
        other.heads[0].out.bias[row] += 1
    assert unlikeness(other, before, images) > 0


def test_the_result_is_the_running_average(before, images, monkeypatch):
    monkeypatch.setattr(
        prune_depth, "update_average", lambda *_: None
    )  # the average stays at the start
    model = shortened(before)
    start = {name: weight.clone() for name, weight in model.named_parameters()}
    list(learn(model, before, itertools.repeat(images), budget=Budget(steps=3), rate=3e-3))
    for name, weight in model.named_parameters():
        assert torch.equal(weight, start[name])
