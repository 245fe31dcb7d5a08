"""Which files a command reads, and in which order."""

import io
import os
import tarfile

import pytest

from tests.support.fake_inference import photo
from tools.batch.inputs import find_sources, read_sources
from tools.batch.types import Photo, Refused, Skipped
from tools.errors import BatchError

NOTHING = io.BytesIO()


def names(*arguments, stdin=b"", **options):
    sources = find_sources(arguments, stdin=io.BytesIO(stdin), **options)
    return [source.path for source in sources.files]


def read(*arguments, stdin=b"", **options):
    stream = io.BytesIO(stdin)
    sources = find_sources(arguments, stdin=stream, **options)
    return list(read_sources(sources, stdin=stream))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("in/b/2.png", "in/a/1.png", "in/3.png", "in/.hidden/4.png", "in/.5.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photo(seed=len(name)))
    (tmp_path / "in/notes.txt").write_text("hello")
    return tmp_path


def test_a_folder_is_read_in_one_order_without_hidden_files(folder):
    expected = ["in/3.png", "in/notes.txt", "in/a/1.png", "in/b/2.png"]
    assert names("in") == names("in/") == expected
    assert names("in", without=[folder / "in" / "a"]) == ["in/3.png", "in/notes.txt", "in/b/2.png"]


def test_arguments_keep_their_order_and_a_file_is_read_once(folder):
    assert names("in/b/2.png", "in/a", "in/b/../b/2.png") == ["in/b/2.png", "in/a/1.png"]


def test_a_glob_is_sorted_and_must_match(folder):
    assert names("in/*/*.png") == ["in/a/1.png", "in/b/2.png"]
    assert names("in/**/*.png") == ["in/3.png", "in/a/1.png", "in/b/2.png"]
    with pytest.raises(BatchError, match=r"nothing matches in/\*\.gif"):
        names("in/*.gif")
    with pytest.raises(BatchError, match=r"no\.png does not exist"):
        names("in", "no.png")


def test_a_link_to_a_folder_is_not_followed(folder):
    (folder / "in" / "loop").symlink_to(folder / "in")
    assert "in/loop/3.png" not in names("in")


def test_files_become_photos_or_are_skipped(folder):
    (folder / "in" / "broken.jpg").write_text("no image at all")
    (folder / "in" / "photo-without-suffix").write_bytes(photo())
    found = {each.name: type(each) for each in read("in")}
    assert found["in/notes.txt"] is Skipped
    # it is asked about, so that it is reported
    assert found["in/broken.jpg"] is Photo
    assert found["in/photo-without-suffix"] is Photo


def test_standard_input_is_one_image_or_a_list(folder):
    (one,) = read("-", stdin=photo())
    assert isinstance(one, Photo)
    assert (one.name, one.data) == ("-", photo())
    listed = b"in/b/2.png\n\nin/a\nmissing.png\r\n"
    first, second, third = read("-", stdin=listed, stdin_is_list=True)
    assert [first.name, second.name] == ["in/b/2.png", "in/a/1.png"]
    assert isinstance(third, Refused)
    assert "No such file" in third.reason
    with pytest.raises(BatchError, match="--from-list reads standard input"):
        names("in", stdin_is_list=True)
    with pytest.raises(BatchError, match="twice"):
        names("-", "-")


def test_an_archive_is_opened_if_it_was_named(folder):
    path = folder / "in" / "a.tar"
    with tarfile.open(path, "w") as archive:
        archive.add("in/3.png")
    assert [each.name for each in read("in/a.tar")] == ["in/a.tar/in/3.png"]
    assert [each.name for each in read("in/*.tar")] == ["in/a.tar/in/3.png"]
    (within,) = (each for each in read("in") if each.name == "in/a.tar")
    assert isinstance(within, Skipped)
    (folder / "a.7z").write_bytes(b"7z\xbc\xaf\x27\x1c" + bytes(300))
    (other,) = read("a.7z")
    assert isinstance(other, Refused)
    assert "no zip, tar or tar.gz" in other.reason


def test_a_name_that_is_no_text_can_be_written(folder):
    path = os.fsencode("in/a/") + b"\xff.png"
    with open(path, "wb") as file:
        file.write(photo())
    (found,) = (each for each in read("in/a") if "xff" in each.name)
    assert found.name == "in/a/\\xff.png"
    assert isinstance(found, Photo)
