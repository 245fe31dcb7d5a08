"""Images as callers have them."""

import io

import pytest
from aurum_client.images import ImageUrl, Picture, read_picture
from aurum_client.request import form_body, raw_body


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"\x89PNG\r\n\x1a\n..", "image/png"),
        (b"RIFF....WEBP", "image/webp"),
        (b"BM..", "image/bmp"),
        (b"GIF89a", "image/x-unknown"),
    ],
)
def test_the_media_type_follows_from_the_bytes(data, media_type):
    assert read_picture(data).media_type == media_type


def test_images_keep_their_file_names(tmp_path):
    path = tmp_path / "Ä b.png"
    path.write_bytes(b"x")
    assert read_picture(path) == read_picture(str(path)) == Picture(b"x", "Ä b.png")
    with path.open("rb") as file:
        assert read_picture(file) == Picture(b"x", "Ä b.png")
    assert read_picture(io.BytesIO(b"x")) == read_picture(memoryview(b"x")) == Picture(b"x", None)


def test_images_of_a_wrong_kind():
    with pytest.raises(TypeError, match="binary mode"):
        read_picture(io.StringIO("text"))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not int"):
        read_picture(3)  # type: ignore[arg-type]


def test_a_url_is_sent_as_json_or_as_a_field():
    picture = read_picture(ImageUrl("https://images.example.com/a.jpg"))
    assert raw_body(picture) == ({"json": {"image_url": "https://images.example.com/a.jpg"}}, {})
    images = [("image_a", picture), ("image_b", read_picture(b"x")), ("images", picture)]
    files = form_body(images, {"threshold": 0.5})["files"]
    assert files == [
        ("image_a_url", (None, b"https://images.example.com/a.jpg")),
        ("image_b", ("image_b", b"x", "image/x-unknown")),
        ("image_urls", (None, b"https://images.example.com/a.jpg")),
    ]
