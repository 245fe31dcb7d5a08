"""Annotated pictures and the contact sheet."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from tests.support.fake_inference import photo
from tools.batch.pictures import THUMBNAIL, draw_into, path_in, pixels_of, shrink
from tools.batch.sheet import ContactSheet
from tools.batch.types import Line, Outcome, Photo

MARK = {"box": [10, 20, 110.5, 120], "label": "score 7.2"}


def line(name, score=7.2):
    return Line(name, "aa", Outcome.ANSWERED, {"faces": [{"score": score}]})


def test_a_picture_stays_in_its_folder(tmp_path):
    names = [
        "a/1.jpg",
        "/a/b.png",
        "../a/1.jpg",
        "../../x",
        "a/../1.jpg",
        "-",
        "y" * 300,
        "a/1.PNG",
    ]
    paths = [path_in(tmp_path, name) for name in names]
    assert paths[0] == tmp_path / "a" / "1.jpg"
    assert paths[1] == tmp_path / "a" / "b.png.jpg"
    assert len(set(paths)) == len(paths)
    for path in paths:
        assert path.resolve().is_relative_to(tmp_path)
        draw_into(path, np.zeros((60, 80, 3), np.uint8), [{"box": [5, 30, 40, 50], "label": "x"}])
        assert Image.open(path).size == (80, 60)


def test_boxes_and_labels_are_drawn(tmp_path):
    path = tmp_path / "a.jpg"
    draw_into(path, np.zeros((200, 200, 3), np.uint8), [MARK])
    pixels = np.asarray(Image.open(path))
    # green on the box's right edge, nothing beyond it
    assert pixels[70, 108:112, 1].max() > 150
    assert pixels[70, 130:].max() < 30


def test_a_thumbnail_is_small_and_knows_the_size_of_its_photo():
    small = shrink(np.zeros((1000, 500, 3), np.uint8))
    assert (small.width, small.height) == (500, 1000)
    assert Image.open(io.BytesIO(small.jpeg)).size == (THUMBNAIL // 2, THUMBNAIL)
    assert Image.open(io.BytesIO(shrink(np.zeros((3, 900, 3), np.uint8)).jpeg)).size[1] == 1


def test_what_cannot_be_decoded_has_no_pixels():
    assert pixels_of(Photo.of("a", b"\xff\xd8\xff\xe0", weight=0)) is None
    pixels = pixels_of(Photo.of("a", photo(size=(30, 20)), weight=0))
    assert pixels is not None
    assert pixels.shape == (20, 30, 3)


class Page(HTMLParser):
    """Elements with their attributes, and what would be loaded from elsewhere."""

    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def sheet(tmp_path):
    return ContactSheet(tmp_path / "out" / "sheet.html", "aurum score")


def page(tmp_path):
    return (tmp_path / "out" / "sheet.html").read_text()


def test_a_sheet_holds_its_pictures_in_the_order_of_the_inputs(tmp_path, sheet):
    pixels = np.zeros((600, 400, 3), np.uint8)
    sheet.add(1, line("second.png", 3.0), [MARK], shrink(pixels))
    sheet.add(0, line("first.png"), [MARK, MARK], shrink(pixels))
    failed = Line("third.png", None, Outcome.FAILED, error={"code": "x", "detail": "why"})
    sheet.add(2, failed, [], None)
    sheet.close()
    text = page(tmp_path)
    assert re.findall(r"<figcaption>(\w+)", text) == ["first", "second", "third"]
    found = Page(text)
    assert [each["data-value"] for each in found.all("figure")] == ["7.2", "3", ""]
    assert len(found.all("rect")) == 3
    rectangle = found.all("rect")[0]
    assert [rectangle[name] for name in ("x", "y", "width", "height")] == [
        "10",
        "20",
        "100.5",
        "100",
    ]
    assert {each["viewbox"] for each in found.all("svg")} == {"0 0 400 600"}
    data = found.all("img")[0]["src"].removeprefix("data:image/jpeg;base64,")
    assert Image.open(io.BytesIO(base64.b64decode(data))).format == "JPEG"
    assert "2 answered, 1 failed" in text
    assert "x: why" in text


def test_a_sheet_needs_no_network(tmp_path, sheet):
    sheet.add(0, line("a.png"), [MARK], shrink(np.zeros((8, 8, 3), np.uint8)))
    sheet.close()
    text = page(tmp_path)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", text)
    assert all(each["src"].startswith("data:") for each in Page(text).all("img"))


def test_names_and_subjects_cannot_become_elements(tmp_path, sheet):
    evil = '"><script>alert(1)</script>\udcff'
    mark = {**MARK, "label": evil}
    failed = Line(evil, "aa", Outcome.FAILED, error={"code": "x", "detail": evil})
    sheet.add(0, failed, [mark], shrink(np.zeros((8, 8, 3), np.uint8)))
    sheet.close()
    assert len(Page(page(tmp_path)).all("script")) == 1
