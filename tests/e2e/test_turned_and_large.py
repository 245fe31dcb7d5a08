"""Photos on their side or head, and small faces in large pictures, through the whole stack."""

import numpy as np
import pytest
import requests
import tritonclient.grpc
from PIL import Image
from tritonclient.utils import InferenceServerException

from gateway.inference.local import LocalEnsemble
from tests.support import photos
from triton_python_backend import contract

SAME = 0.95
"""Cosine at least between a turned photo's face and the upright one's."""


def ask(stack, route: str, data: bytes, **params: object) -> dict:
    answer = requests.post(
        f"{stack.url}/api/ml/{route}", params=params, files={"image": ("x", data)}, timeout=60
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def upright() -> Image.Image:
    """Not square, so that a forgotten turn shows."""
    return photos.portrait().crop((56, 0, 456, 512))


@pytest.fixture(scope="module")
def face(stack):
    (found,) = ask(stack, "embed", photos.encode(upright()))["faces"]
    return found


@pytest.mark.parametrize("angle", [90, 180, 270])
def test_a_photo_turned_as_a_whole_is_as_good_as_upright(stack, face, angle):
    turned = upright().rotate(angle, expand=True)
    answer = ask(stack, "embed", photos.encode(turned))
    assert answer["rotation"] == angle
    (found,) = answer["faces"]
    assert np.dot(found["embedding"], face["embedding"]) >= SAME
    assert found["quality"]["roll"] == pytest.approx(face["quality"]["roll"], abs=2)
    assert found["quality"]["acceptable"]
    # boxes and landmarks are in the pixels that were sent
    x, y = np.array(face["landmarks"]).T
    width, height = 399, 511
    there = {90: (y, width - x), 180: (width - x, height - y), 270: (height - y, x)}[angle]
    np.testing.assert_allclose(found["landmarks"], np.stack(there, axis=1), atol=1)
    left, top, right, bottom = found["box"]
    assert (left < np.array(found["landmarks"])[:, 0]).all()
    assert (np.array(found["landmarks"])[:, 1] < bottom).all()
    sides = face["box"][2] - face["box"][0], face["box"][3] - face["box"][1]
    shown = sides if angle == 180 else sides[::-1]
    assert (right - left, bottom - top) == pytest.approx(shown, abs=1)


@pytest.mark.parametrize("angle", [45, 60, 135, 210, 315])
@pytest.mark.parametrize("expand", [True, False])
def test_a_photo_at_any_angle_is_the_same_face(stack, face, angle, expand):
    turned = photos.portrait().rotate(angle, Image.Resampling.BICUBIC, expand=expand)
    found = ask(stack, "embed", photos.encode(turned))["faces"]
    assert len(found) == 1
    assert np.dot(found[0]["embedding"], face["embedding"]) >= SAME
    assert found[0]["quality"]["acceptable"]


def test_a_large_turned_jpeg_is_read_at_a_reduced_scale_and_upright(stack, face):
    large = upright().resize((2400, 3072)).rotate(270, expand=True)
    answer = ask(stack, "embed", photos.encode(large, "JPEG"))
    assert answer["rotation"] == 270
    assert np.dot(answer["faces"][0]["embedding"], face["embedding"]) >= SAME


def test_rotation_off_takes_the_photo_as_it_is(stack):
    turned = photos.encode(upright().rotate(90, expand=True))
    answer = ask(stack, "detect", turned, rotation="off")
    assert (answer["faces"], answer["faces_found"], answer["rotation"]) == ([], 0, 0)


def test_one_who_lies_among_upright_ones_does_not_turn_the_picture(stack):
    sheet = Image.new("RGB", (1024, 512), (120, 120, 120))
    sheet.paste(photos.portrait(), (0, 0))
    sheet.paste(photos.portrait().rotate(90), (512, 0))
    answer = ask(stack, "detect", photos.encode(sheet))
    assert answer["rotation"] == 0
    assert answer["faces"][0]["box"][0] < 512


def test_a_turned_photo_is_enrolled_and_found(stack):
    collection = f"{stack.url}/api/collections/turned"
    body = {"name": "turned"}
    assert requests.post(f"{stack.url}/api/collections", json=body, timeout=60).ok
    lying = photos.encode(upright().rotate(90, expand=True))
    enrolled = requests.post(
        f"{collection}/faces",
        data={"subject": "collins"},
        files={"image": ("x", lying)},
        timeout=60,
    )
    assert enrolled.status_code == 201, enrolled.text
    assert enrolled.json()["faces"][0]["faces_found"] == 1
    data = photos.encode(upright().rotate(180, expand=True))
    files = {"image": ("x", data)}
    found = requests.post(f"{collection}/search", files=files, timeout=60).json()
    assert found["faces"][0]["matches"][0]["subject"] == "collins"
    assert (found["faces_found"], found["rotation"]) == (1, 180)


def crowd(count: int, width: int) -> Image.Image:
    """Portraits whose faces are so many pixels wide, eight in a row."""
    cell = round(220 * width / 91)
    head = (
        photos.portrait().crop((120, 20, 340, 240)).resize((cell, cell), Image.Resampling.LANCZOS)
    )
    sheet = Image.new("RGB", (8 * cell, -(-count // 8) * cell), (128, 128, 128))
    for number in range(count):
        sheet.paste(head, (number % 8 * cell, number // 8 * cell))
    return sheet


def test_more_than_32_faces_are_counted_and_can_be_had(stack):
    data = photos.encode(crowd(48, 60), "JPEG", quality=95)
    for max_faces in (5, 48, 512):
        answer = ask(stack, "embed", data, max_faces=max_faces)
        assert answer["faces_found"] == 48
        assert len(answer["faces"]) == min(max_faces, 48)
    assert len(ask(stack, "score", data)["faces"]) == contract.MAX_FACES


def test_small_faces_in_a_large_picture_are_found_once_each(stack):
    """A picture of 20 megapixels with 48 faces of 24 pixels, 24 of 64 and a large one."""
    sheet = Image.new("RGB", (5472, 3648), (110, 120, 130))
    sheet.paste(photos.portrait().resize((2000, 2000)), (3000, 1500))
    sheet.paste(crowd(48, 24), (700, 490))
    sheet.paste(crowd(24, 64), (1100, 2000))
    data = photos.encode(sheet, "JPEG", quality=92)
    answer = ask(stack, "detect", data, detail="high", max_faces=512)
    assert answer["faces_found"] == len(answer["faces"])
    widths = np.array([face["box"][2] - face["box"][0] for face in answer["faces"]])
    assert ((widths > 18) & (widths < 32)).sum() >= 46
    assert ((widths > 50) & (widths < 80)).sum() == 24
    assert (widths > 300).sum() == 1
    assert len(widths) <= 48 + 24 + 1
    assert len(ask(stack, "detect", data)["faces"]) < 30


def test_the_most_alike_of_two_pictures_are_compared(stack):
    other = photos.portrait().transpose(Image.Transpose.FLIP_LEFT_RIGHT).crop((60, 0, 460, 400))
    sheet = Image.new("RGB", (1500, 1000), (120, 120, 120))
    blurred = photos.portrait().resize((40, 40)).resize((1000, 1000))
    sheet.paste(blurred, (0, 0))
    sheet.paste(other, (1050, 300))
    images = {"image_a": photos.encode(sheet), "image_b": photos.encode(photos.portrait())}
    answers = [
        requests.post(
            f"{stack.url}/api/ml/verify", params={"faces": which}, files=images, timeout=60
        ).json()
        for which in ("largest", "best")
    ]
    assert [answer["faces_found_a"] for answer in answers] == [2, 2]
    assert answers[1]["similarity"] > answers[0]["similarity"]
    assert answers[1]["face_a"]["box"][0] > 1000


@pytest.mark.parametrize("ensemble", [contract.PIPELINE.name, contract.UNSCORED.name])
def test_triton_takes_the_same_as_parameters(stack, ensemble):
    turned = photos.encode(crowd(40, 60).rotate(180))
    with tritonclient.grpc.InferenceServerClient(stack.grpc_address) as client:
        image = tritonclient.grpc.InferInput(contract.IMAGE, [1], "BYTES")
        image.set_data_from_numpy(np.array([turned], dtype=np.object_))
        answer = client.infer(ensemble, [image], parameters={"max_faces": 36})
        assert len(answer.as_numpy(contract.BOXES)) == 36
        assert len(answer.as_numpy(contract.EMBEDDING)) == 36
        assert len(answer.as_numpy(contract.FOUND_CONFIDENCE)) == 40
        assert answer.as_numpy(contract.ROTATION).tolist() == [180]
        for wrong in ({"max_faces": 513}, {"rotation": "left"}, {"detail": "low"}):
            with pytest.raises(InferenceServerException, match="INVALID_ARG.*" + next(iter(wrong))):
                client.infer(ensemble, [image], parameters=wrong)


@pytest.mark.parametrize("angle", [0, 90, 135])
def test_the_ensemble_in_this_process_gives_the_same_faces(stack, real_repository, angle):
    data = photos.encode(crowd(40, 60).rotate(angle, expand=True))
    answer = ask(stack, "embed", data)
    analysis = LocalEnsemble(real_repository).analyse(data)
    assert analysis.rotation == answer["rotation"]
    assert len(analysis.confidences) == answer["faces_found"]
    boxes = [face["box"] for face in answer["faces"]]
    np.testing.assert_allclose([face.box for face in analysis.faces], boxes, atol=0.05)
    for face, served in zip(analysis.faces, answer["faces"], strict=True):
        assert float(face.embedding @ np.array(served["embedding"])) > 0.999
