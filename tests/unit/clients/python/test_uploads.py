"""Bodies of uploads: names, lengths, archives, and files that are read anew for each attempt."""

import io
import os
import tracemalloc
from email.parser import BytesParser
from email.policy import HTTP

import pytest
from aurum_client.images import ImageUrl
from aurum_client.uploads import NamedImage, images_in, make_upload


def parts_of(upload) -> list[tuple[str, bytes]]:
    """Parse a form with Python's own parser."""
    body = b"".join(upload.chunks())
    assert len(body) == int(upload.headers["Content-Length"])
    head = f"Content-Type: {upload.media_type}\r\n\r\n".encode()
    message = BytesParser(policy=HTTP).parsebytes(head + body)
    return [(part.get_filename(), part.get_payload(decode=True)) for part in message.iter_parts()]


def test_a_form_has_each_image_with_its_name(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"one")
    file = io.BytesIO(b"skip two")
    file.seek(5)
    upload = make_upload([path, b"bytes", file, NamedImage('x/Ä "q" 5%\r\n.jpg', b"three")])
    for _ in range(2):
        assert parts_of(upload) == [
            ("a.jpg", b"one"),
            ("image", b"bytes"),
            ("image", b"two"),
            ('x/Ä "q" 5%\r\n.jpg', b"three"),
        ]


def test_a_url_is_a_field_of_its_own():
    url = ImageUrl("https://images.example.com/a.jpg?b=c")
    for images in (url, [url], [b"bytes", url, NamedImage("ada.jpg", url)]):
        body = b"".join(make_upload(images).chunks())
        assert b'name="image_url"\r\n' in body
        assert body.count(b"images.example.com/a.jpg?b=c\r\n") == body.count(b'"image_url"')
    assert b'name="image_url"; filename="ada.jpg"' in body


@pytest.mark.parametrize(
    ("head", "media_type"),
    [
        (b"PK\x03\x04rest", "application/zip"),
        (b"\x1f\x8brest", "application/gzip"),
        (bytes(257) + b"ustar\x0000", "application/x-tar"),
    ],
)
def test_a_single_archive_is_the_whole_body(tmp_path, head, media_type):
    path = tmp_path / "archive"
    path.write_bytes(head)
    for source in (path, str(path), head, io.BytesIO(head)):
        upload = make_upload(source)
        assert upload.headers == {"Content-Type": media_type, "Content-Length": str(len(head))}
        assert b"".join(upload.chunks()) == head
    assert make_upload([path, b"image"]).boundary is not None


def test_a_folder_gives_its_images_by_their_paths(tmp_path):
    for name in ("b/2.PNG", "b/1.jpg", "a.webp", ".hidden.jpg", ".git/x.jpg", "notes.txt"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(name.encode())
    assert [each.name for each in images_in(tmp_path)] == ["a.webp", "b/1.jpg", "b/2.PNG"]
    assert parts_of(make_upload(tmp_path))[1] == ("b/1.jpg", b"b/1.jpg")
    with pytest.raises(NotADirectoryError):
        list(images_in(tmp_path / "a.webp"))


def test_a_large_file_is_not_read_into_memory(tmp_path):
    path = tmp_path / "large.zip"
    with path.open("wb") as file:
        file.write(b"PK\x03\x04")
        file.truncate(100 << 20)
    tracemalloc.start()
    upload = make_upload(path)
    assert sum(len(chunk) for chunk in upload.chunks()) == 100 << 20
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


def test_the_progress_ends_at_the_total():
    seen: list[tuple[int, int | None]] = []
    upload = make_upload([b"one", b"two"], lambda sent, total: seen.append((sent, total)))
    length = len(b"".join(upload.chunks()))
    assert seen[-1] == (length, length)
    assert [sent for sent, _ in seen] == sorted({sent for sent, _ in seen})


def test_a_pipe_is_sent_once_and_without_length():
    reader, writer = os.pipe()
    os.write(writer, b"image")
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        upload = make_upload(pipe)
        assert upload.single_use
        assert "Content-Length" not in upload.headers
        assert b"image\r\n" in b"".join(upload.chunks())


@pytest.mark.parametrize("now", [b"short", b"longer than before"])
def test_a_file_that_changes_while_it_is_sent_is_an_error(tmp_path, now):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"ten bytes.")
    upload = make_upload(path)
    path.write_bytes(now)
    with pytest.raises(OSError, match=r"a\.jpg changed"):
        list(upload.chunks())


def test_wrong_sources_are_refused(tmp_path):
    for nothing in ([], tmp_path):
        with pytest.raises(ValueError, match="no images"):
            make_upload(nothing)
    with pytest.raises(TypeError, match="not int"):
        make_upload([5])
    with pytest.raises(FileNotFoundError):
        make_upload(tmp_path / "absent.jpg")
    text = tmp_path / "text"
    text.write_text("x")
    with text.open() as file, pytest.raises(TypeError, match="binary mode"):
        list(make_upload([file, b""]).chunks())
