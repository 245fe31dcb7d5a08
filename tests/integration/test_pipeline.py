"""The ensemble on a real tritonserver with real weights: photos that are easy, hard or none."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from PIL import Image
from tritonclient.utils import InferenceServerException

from tests.support import photos
from triton_python_backend import contract

OUTPUTS = [tensor.name for tensor in contract.PIPELINE.outputs]
PER_FACE = [
    tensor.name
    for tensor in contract.PIPELINE.outputs
    if tensor.dims[0] == -1 and tensor.name != contract.FOUND_CONFIDENCE
]


@pytest.fixture(scope="module")
def client(triton):
    with tritonclient.grpc.InferenceServerClient(triton.grpc_address) as client:
        yield client


def ask(
    client, data: bytes, outputs=OUTPUTS, module=tritonclient.grpc, ensemble=contract.PIPELINE.name
) -> dict[str, np.ndarray]:
    image = module.InferInput(contract.IMAGE, [1], "BYTES")
    image.set_data_from_numpy(np.array([data], dtype=np.object_))
    wanted = [module.InferRequestedOutput(name) for name in outputs]
    answer = client.infer(ensemble, [image], outputs=wanted)
    return {name: answer.as_numpy(name) for name in outputs}


def executions(client) -> dict[str, int]:
    statistics = client.get_inference_statistics()
    counts = dict.fromkeys([stage.name for stage in contract.STAGES], 0)
    for model in statistics.model_stats:
        counts[model.name] += model.execution_count
    return counts


def settled_executions(client) -> dict[str, int]:
    """Triton counts a run after it has answered: read until two readings agree."""
    counts, earlier = executions(client), None
    while counts != earlier:
        time.sleep(0.3)
        counts, earlier = executions(client), counts
    return counts


def test_a_portrait_is_one_face_with_everything(client):
    faces = ask(client, photos.PORTRAIT.read_bytes())
    for tensor in contract.PIPELINE.outputs:
        array = faces[tensor.name]
        expected = tuple(1 if i == 0 and dim == -1 else dim for i, dim in enumerate(tensor.dims))
        assert len(array.shape) == len(expected)
        assert all(want in (-1, got) for got, want in zip(array.shape, expected, strict=True))
    left, top, right, bottom = faces[contract.BOXES][0]
    assert 150 < left < right < 300
    assert 30 < top < bottom < 230
    np.testing.assert_allclose(np.linalg.norm(faces[contract.EMBEDDING], axis=1), 1, atol=1e-5)
    assert 1 <= faces[contract.SCORE][0] <= 10
    quality = dict(zip(contract.QUALITY_COLUMNS, faces[contract.QUALITY][0], strict=True))
    assert quality["size"] == pytest.approx(min(right - left, bottom - top), abs=0.01)
    assert abs(quality["roll"]) < 25


@pytest.mark.parametrize("module", [tritonclient.grpc, tritonclient.http], ids=["grpc", "http"])
def test_no_face_is_no_rows_for_both_protocols(triton, module):
    address = triton.grpc_address if module is tritonclient.grpc else triton.http_address
    with module.InferenceServerClient(address) as client:
        faces = ask(client, photos.blank(), module=module)
    for name in PER_FACE:
        assert faces[name].shape[0] == 0, name
    assert faces[contract.SPACE].shape == (1,)
    assert faces[contract.EMBEDDING].shape[1] > 0


def test_six_faces_in_the_group_photo_largest_first(client):
    faces = ask(client, photos.group_photo())
    assert len(faces[contract.BOXES]) == 6
    extent = faces[contract.BOXES][:, 2:] - faces[contract.BOXES][:, :2]
    assert (np.diff(extent.prod(axis=1)) <= 0).all()


@pytest.mark.parametrize("photo", [photos.group_photo, photos.blank])
def test_without_scores_the_answer_is_the_same_but_for_the_filler(client, photo):
    whole = ask(client, photo())
    outputs = [tensor.name for tensor in contract.UNSCORED.outputs]
    before = settled_executions(client)
    unscored = ask(client, photo(), outputs, ensemble=contract.UNSCORED.name)
    after = settled_executions(client)
    ran = {name for name, count in after.items() if count > before[name]}
    assert ran.isdisjoint({contract.SCORING.name, contract.RESULTS.name})
    rows = len(whole[contract.BOXES])
    for name in outputs:
        filled = name in (contract.CROPS, contract.EMBEDDING)
        if filled or name == contract.SPACE:
            assert len(unscored[name]) == max(rows, 1)
        if name != contract.SPACE:
            same = unscored[name][:rows] if filled else unscored[name]
            np.testing.assert_allclose(same, whole[name], atol=1e-5)
    assert set(unscored[contract.SPACE].reshape(-1)) == set(whole[contract.SPACE])


def test_of_more_than_32_faces_the_32_largest_come(client):
    sheet = photos.crowd(6, 7, first=180, step=4)
    faces = ask(client, photos.encode(sheet, "JPEG"))
    assert len(faces[contract.BOXES]) == contract.MAX_FACES
    centres = (faces[contract.BOXES][:, :2] + faces[contract.BOXES][:, 2:]) / 2
    columns, rows = (centres // [sheet.width / 7, sheet.height / 6]).astype(int).T
    # a detector may miss some of the 42, but never are the smallest among the largest 32 found
    kept = set((rows * 7 + columns).tolist())
    assert kept.isdisjoint(range(4))
    assert 41 in kept
    for name in PER_FACE:
        assert faces[name].shape[0] == contract.MAX_FACES
    found = faces[contract.FOUND_CONFIDENCE]
    assert len(found) > contract.MAX_FACES
    np.testing.assert_array_equal(found[: contract.MAX_FACES], faces[contract.CONFIDENCE])


MODES = {
    "grey": lambda: photos.encode(photos.portrait().convert("L"), "JPEG"),
    "cmyk": lambda: photos.encode(photos.portrait().convert("CMYK"), "JPEG"),
    "alpha": lambda: photos.encode(photos.portrait().convert("RGBA")),
    "palette": lambda: photos.encode(photos.portrait().convert("P")),
    "webp": lambda: photos.encode(photos.portrait(), "WEBP"),
    "bmp": lambda: photos.encode(photos.portrait(), "BMP"),
    "16-bit": lambda: photos.encode(
        Image.fromarray(np.asarray(photos.portrait().convert("L")).astype(np.uint16) * 257)
    ),
    "animated": lambda: photos.encode(
        photos.portrait(), "WEBP", save_all=True, append_images=[Image.new("RGB", (512, 512))]
    ),
    "multi-page": lambda: photos.encode(
        photos.portrait(), "MPO", save_all=True, append_images=[Image.new("RGB", (512, 512))]
    ),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_kind_of_file_shows_the_same_face(client, mode):
    expected = ask(client, photos.PORTRAIT.read_bytes(), [contract.BOXES])
    faces = ask(client, MODES[mode](), [contract.BOXES])
    np.testing.assert_allclose(faces[contract.BOXES], expected[contract.BOXES], atol=8)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_refer_to_the_upright_image(client, orientation):
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    # not square, so that a forgotten turn shows
    upright = photos.portrait().crop((0, 0, 512, 400))
    stored = upright if orientation == 1 else upright.transpose(turns[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    expected = ask(client, photos.encode(upright), [contract.BOXES])
    faces = ask(client, photos.encode(stored, exif=exif), [contract.BOXES])
    np.testing.assert_allclose(faces[contract.BOXES], expected[contract.BOXES], atol=0.01)


@pytest.mark.parametrize("size", [(1, 1), (2, 900), (16, 16)])
def test_tiny_images_have_no_face_and_no_error(client, size):
    faces = ask(client, photos.blank(*size))
    assert faces[contract.BOXES].shape == (0, 4)


def test_a_huge_image(client):
    sheet = Image.new("RGB", (7500, 5300), (120, 120, 120))
    sheet.paste(photos.portrait().resize((3000, 3000)), (100, 100))
    faces = ask(client, photos.encode(sheet, "JPEG"), [contract.BOXES])
    assert len(faces[contract.BOXES]) == 1
    assert faces[contract.BOXES][0, 2] - faces[contract.BOXES][0, 0] > 500


def test_an_image_beyond_the_limit_is_refused(client):
    with pytest.raises(InferenceServerException, match=contract.INVALID_IMAGE):
        ask(client, photos.blank(7000, 7000), [contract.BOXES])


def test_a_face_that_fills_the_frame_is_found(client):
    left, top, right, bottom = ask(client, photos.PORTRAIT.read_bytes())[contract.BOXES][0]
    for margin in (0, 8):
        box = (left - margin, top - margin, right + margin, bottom + margin)
        close = photos.portrait().crop(box).resize((800, 1000))
        faces = ask(client, photos.encode(close, "JPEG"), [contract.BOXES])
        assert len(faces[contract.BOXES]) == 1, margin


def test_a_large_jpeg_answers_as_a_small_one_does(client):
    small, large = (  # the larger one is decoded at a quarter of its size
        ask(client, photos.encode(photos.portrait().resize((edge, edge)), "JPEG", quality=92))
        for edge in (900, 3900)
    )
    boxes = large[contract.BOXES] / 3900, small[contract.BOXES] / 900
    np.testing.assert_allclose(*boxes, atol=0.004)
    assert float(large[contract.EMBEDDING][0] @ small[contract.EMBEDDING][0]) > 0.97


def test_a_small_face_in_a_large_jpeg_is_cut_from_the_full_picture(client):
    sheet = Image.new("RGB", (2000, 1400), (128, 128, 128))
    sheet.paste(photos.portrait(), (700, 400))
    reduced = ask(client, photos.encode(sheet, "JPEG", quality=98))
    full = ask(client, photos.encode(sheet, "PNG"))  # decoded in full in any case
    assert len(reduced[contract.BOXES]) == len(full[contract.BOXES]) == 1
    sharpness = contract.QUALITY_COLUMNS.index("sharpness")
    # at half the scale the crop would be enlarged, and soft
    ratio = reduced[contract.QUALITY][0, sharpness] / full[contract.QUALITY][0, sharpness]
    assert 0.9 < ratio < 1.1
    assert float(reduced[contract.EMBEDDING][0] @ full[contract.EMBEDDING][0]) > 0.9


def test_portraits_in_the_wild_give_a_face(client):
    def found(photo: tuple[str, bytes]) -> tuple[str, int]:
        name, data = photo
        return name, len(ask(client, data, [contract.BOXES])[contract.BOXES])

    with ThreadPoolExecutor(4) as pool:
        counts = dict(pool.map(found, photos.portraits_in_the_wild(every=10)))
    missed = [name for name, faces in counts.items() if not faces]
    assert len(counts) > 200
    assert len(missed) / len(counts) <= 0.005, missed


def test_a_corrupt_image_fails_alone_among_good_ones(client):
    good, bad = photos.PORTRAIT.read_bytes(), photos.cut_off()

    def outcome(data: bytes) -> object:
        try:
            return len(ask(client, data)[contract.BOXES])
        except InferenceServerException as error:
            return contract.INVALID_IMAGE in str(error)

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(outcome, [good, bad, good, photos.blank()] * 6))
    assert outcomes == [1, True, 1, 0] * 6


def test_faces_of_concurrent_requests_share_a_run(client):
    crops = tritonclient.grpc.InferInput(contract.CROPS, [1, 112, 112, 3], "UINT8")
    crops.set_data_from_numpy(np.zeros((1, 112, 112, 3), np.uint8))
    before = executions(client)["face_embedding"]
    with ThreadPoolExecutor(32) as pool:
        list(pool.map(lambda _: client.infer("face_embedding", [crops]), range(64)))
    assert executions(client)["face_embedding"] - before < 64


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_single_output_can_be_asked_for(client, output):
    assert len(ask(client, photos.PORTRAIT.read_bytes(), [output])[output]) == 1


def test_stages_that_nobody_asks_for_do_not_run(client):
    before = settled_executions(client)
    ask(client, photos.PORTRAIT.read_bytes(), [contract.BOXES, contract.CROPS])
    after = settled_executions(client)
    assert after["face_alignment"] == before["face_alignment"] + 1
    for name in ("face_embedding", "face_scoring", "face_results"):
        assert after[name] == before[name]


def test_one_and_many_give_the_same_answer(client):
    alone = ask(client, photos.PORTRAIT.read_bytes())
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda _: ask(client, photos.PORTRAIT.read_bytes()), range(16)))
    for faces in together:
        for name in OUTPUTS:
            np.testing.assert_allclose(faces[name], alone[name], atol=1e-4)
