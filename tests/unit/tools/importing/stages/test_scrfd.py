import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from tests.support import tiny_sources
from tools.errors import WeightsError
from tools.importing.network import load_network
from tools.importing.stages import scrfd
from triton_python_backend.contract import DETECTION, MAX_CANDIDATES, parse_id

DISTANCES = np.array([[1, 2, 3, 4], [0.5, 0.5, 0.5, 0.5]], np.float32)
OFFSETS = np.stack([np.arange(10), -np.arange(10)]).astype(np.float32) / 4
WHITE_SCORE = 1 / (1 + np.exp(-(tiny_sources.LOGIT_SCALE * 127.5 / 128 - 10)))


class Detector:
    def __init__(self, graph: bytes) -> None:
        self.session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])

    def __call__(self, canvases: np.ndarray) -> tuple[np.ndarray, ...]:
        names = [tensor.name for tensor in DETECTION.outputs]
        return self.session.run(names, {"CANVAS": canvases})


def make(tmp_path, **options) -> Detector:
    options = {"distances": DISTANCES, "offsets": OFFSETS, **options}
    path = tiny_sources.save_detector(tmp_path / "det.onnx", **options)
    return Detector(scrfd.prepare(load_network(path)).graph)


def black(*, batch: int = 1, height: int = 64, width: int = 96) -> np.ndarray:
    return np.zeros((batch, height, width, 3), np.uint8)


def light(canvas: np.ndarray, *, column: int, row: int, channel: int, value: int = 255) -> None:
    canvas[8 * row : 8 * row + 8, 8 * column : 8 * column + 8, channel] = value


@pytest.mark.parametrize("opset", [11, 13, 17])
@pytest.mark.parametrize("sigmoid_first", [False, True])
@pytest.mark.parametrize("wide", [False, True])
def test_a_cell_is_decoded_by_place_stride_and_anchor(tmp_path, opset, sigmoid_first, wide):
    detect = make(tmp_path, opset=opset, sigmoid_first=sigmoid_first, wide=wide)
    canvases = black()
    light(canvases[0], column=5, row=2, channel=0)
    boxes, landmarks, confidence, _ = detect(canvases)
    centre = np.array([40, 16], np.float32)
    np.testing.assert_allclose(boxes[0, 0], [40 - 8, 16 - 16, 40 + 24, 16 + 32], atol=1e-4)
    points = centre + 8 * OFFSETS[0].reshape(5, 2)
    np.testing.assert_allclose(landmarks[0, 0], points, atol=1e-4)
    np.testing.assert_allclose(confidence[0, 0], WHITE_SCORE, atol=1e-5)
    assert not boxes[0, 1:].any()
    assert not landmarks[0, 1:].any()
    assert not confidence[0, 1:].any()


def test_the_three_heads_of_a_stride_are_one_convolution(tmp_path):
    path = tiny_sources.save_detector(
        tmp_path / "det.onnx", distances=DISTANCES, offsets=OFFSETS, wide=True
    )
    graph = onnx.load_from_string(scrfd.prepare(load_network(path)).graph).graph
    kinds = [node.op_type for node in graph.node]
    assert kinds.count("Conv") == kinds.count("Split") == len(tiny_sources.STRIDES)


def test_the_second_anchor_has_its_own_box(tmp_path):
    canvases = black()
    light(canvases[0], column=3, row=4, channel=1)
    boxes, landmarks, _, _ = make(tmp_path)(canvases)
    np.testing.assert_allclose(boxes[0, 0], [20, 28, 28, 36], atol=1e-4)
    np.testing.assert_allclose(landmarks[0, 0], [24, 32] + 8 * OFFSETS[1].reshape(5, 2), atol=1e-4)


def test_one_anchor_per_cell_is_read_from_the_graph(tmp_path):
    canvases = black()
    light(canvases[0], column=3, row=4, channel=0)
    boxes, *_ = make(tmp_path, distances=DISTANCES[:1], offsets=OFFSETS[:1])(canvases)
    np.testing.assert_allclose(boxes[0, 0], [16, 16, 48, 64], atol=1e-4)


def test_coarser_levels_use_their_stride(tmp_path):
    canvases = black()
    canvases[0, 32:64, 64:96, 2] = 255
    boxes, _, confidence, _ = make(
        tmp_path, distances=np.full((1, 4), 0.25, np.float32), offsets=OFFSETS[:1]
    )(canvases)
    found = {tuple(box) for box in boxes[0][confidence[0] > 0].round().tolist()}
    sixteen = {(x - 4, y - 4, x + 4, y + 4) for x in (64, 80) for y in (32, 48)}
    assert (56, 24, 72, 40) in found
    # the box of stride 32 at the same corner has four times the area, so both are kept
    assert sixteen <= found


def test_images_of_a_batch_do_not_mix(tmp_path):
    detect = make(tmp_path)
    canvases = black(batch=4)
    light(canvases[0], column=1, row=1, channel=0)
    light(canvases[0], column=8, row=5, channel=1, value=240)
    light(canvases[2], column=6, row=3, channel=1)
    light(canvases[2], column=9, row=3, channel=1, value=230)
    light(canvases[2], column=3, row=3, channel=1, value=220)
    together = detect(canvases)
    assert (together[2] > 0).sum(axis=1).tolist() == [2, 0, 3, 0]
    for index in range(4):
        for name, alone in enumerate(detect(canvases[index : index + 1])):
            np.testing.assert_array_equal(together[name][index], alone[0])


def test_faces_are_sorted_by_confidence(tmp_path):
    canvases = black()
    for column, value in enumerate((220, 250, 235)):
        light(canvases[0], column=3 * column, row=1, channel=1, value=value)
    boxes, _, confidence, _ = make(tmp_path)(canvases)
    assert boxes[0, :3, 0].round().tolist() == [20, 44, -4]
    assert (np.diff(confidence[0]) <= 1e-6).all()


def test_scores_below_one_half_are_not_reported(tmp_path):
    detect = make(tmp_path)
    canvases = black()
    # the score is one half at 191.5
    light(canvases[0], column=1, row=1, channel=1, value=191)
    assert not detect(canvases)[2].any()
    light(canvases[0], column=1, row=1, channel=1, value=192)
    assert detect(canvases)[2][0, 0] > 0.5


def test_the_weaker_of_two_overlapping_boxes_is_dropped(tmp_path):
    detect = make(tmp_path)
    canvases = black()
    light(canvases[0], column=5, row=2, channel=0, value=240)
    light(canvases[0], column=6, row=2, channel=0)
    boxes, _, confidence, _ = detect(canvases)
    assert (confidence > 0).sum() == 1
    np.testing.assert_allclose(boxes[0, 0, 0], 40, atol=1e-4)
    # two cells apart they overlap by a third, which is allowed
    canvases = black()
    light(canvases[0], column=5, row=2, channel=0)
    light(canvases[0], column=7, row=2, channel=0)
    assert (detect(canvases)[2] > 0).sum() == 2


def test_overlap_counts_pixels_as_insightface_does(tmp_path):
    # 10 x 10 around 10 x 4: the overlap is 40/100, but (11*5)/(11*11) if pixels have a width of 1
    distances = np.array([[0, 0, 1.25, 1.25], [0, 0, 1.25, 0.5]], np.float32)
    canvases = black()
    light(canvases[0], column=3, row=2, channel=0)
    light(canvases[0], column=3, row=2, channel=1, value=240)
    _, _, confidence, _ = make(tmp_path, distances=distances)(canvases)
    assert (confidence > 0).sum() == 1


def test_at_most_256_faces_the_surest(tmp_path):
    small = np.full((1, 4), 0.25, np.float32)
    detect = make(tmp_path, distances=small, offsets=OFFSETS[:1])
    canvases = black(height=160, width=160)
    canvases[..., 0] = 230
    light(canvases[0], column=19, row=19, channel=0)
    boxes, _, confidence, _ = detect(canvases)
    assert (confidence > 0).sum() == MAX_CANDIDATES
    np.testing.assert_allclose(boxes[0, 0], [150, 150, 154, 154], atol=1e-4)


def test_a_first_convolution_reads_interleaved_pixels_alike(tmp_path):
    canvases = np.random.default_rng(1).integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)
    light(canvases[0], column=4, row=4, channel=1)
    moved = make(tmp_path, convolution=True)(canvases)
    # padding is zero after normalisation, which is a value of 127.5 before it
    shifted = np.concatenate([np.full_like(canvases[:, :, :1], 127), canvases[:, :, :-1]], axis=2)
    plain = make(tmp_path)(shifted)
    assert (plain[2] > 0).any()
    for left, right in zip(moved[:2], plain[:2], strict=True):
        np.testing.assert_allclose(left, right, atol=1e-3)
    np.testing.assert_allclose(moved[2], plain[2], atol=0.01)


def test_the_id_depends_on_the_file(tmp_path):
    path = tiny_sources.save_detector(tmp_path / "det.onnx", distances=DISTANCES, offsets=OFFSETS)
    prepared = scrfd.prepare(load_network(path))
    assert Detector(prepared.graph)(black(batch=2))[3].tolist() == [[prepared.identity]] * 2
    model = onnx.load_from_string(prepared.graph)
    named = {entry.key: entry.value for entry in model.metadata_props}
    assert parse_id(named["aurum.id"]) == prepared.identity
    other = tiny_sources.save_detector(
        tmp_path / "other.onnx", distances=DISTANCES * 2, offsets=OFFSETS
    )
    assert scrfd.prepare(load_network(other)).identity != prepared.identity


def test_other_networks_are_refused_by_shape(tmp_path):
    path = tiny_sources.save_embedder(tmp_path / "embedder.onnx")
    with pytest.raises(WeightsError, match=r"not a detector: it takes \[\?,3,112,112\] and has 1"):
        scrfd.prepare(load_network(path))


def test_a_detector_that_answers_nan_is_refused(tmp_path):
    offsets = OFFSETS.copy()
    offsets[0, 3] = np.nan
    path = tiny_sources.save_detector(tmp_path / "det.onnx", distances=DISTANCES, offsets=offsets)
    with pytest.raises(WeightsError, match="LANDMARKS holds values that are not finite"):
        scrfd.prepare(load_network(path))


def test_heads_of_other_proportions_are_refused(tmp_path):
    path = tiny_sources.save_detector(tmp_path / "det.onnx", distances=DISTANCES, offsets=OFFSETS)
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name in ("k16.weight", "k16.bias"):
            half = numpy_helper.to_array(tensor)[:10]
            tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))
    onnx.save(model, path)
    with pytest.raises(WeightsError, match=r"stride 16 has maps of \[2, 8, 10\] channels"):
        scrfd.prepare(load_network(path))
