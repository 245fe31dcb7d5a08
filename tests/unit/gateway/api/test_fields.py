"""Fields of requests: base64, strict JSON, parsed texts."""

import base64
import json
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.api.collections.schemas import EnrolIn
from gateway.api.fields import decode_image, parse_json, read_fields
from gateway.errors import ImageTooLargeError, InvalidImageError, InvalidRequestError

DATA = bytes(range(256)) * 3 + b"\xff\xfe"
PLAIN = base64.b64encode(DATA).decode()
URL_SAFE = base64.urlsafe_b64encode(DATA).decode()


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        PLAIN.rstrip("="),
        URL_SAFE,
        URL_SAFE.rstrip("="),
        "data:image/png;base64," + PLAIN,
        "data:;base64," + URL_SAFE.rstrip("="),
        " DATA:image/png;charset=x;BASE64," + PLAIN,
        "data:image/png;base64," + PLAIN.replace("+", "%2B").replace("=", "%3D"),
        "\r\n".join(PLAIN[at : at + 76] for at in range(0, len(PLAIN), 76)),
    ],
)
def test_base64_is_read_in_all_its_forms(text):
    assert decode_image("image", text, len(DATA)) == DATA


@pytest.mark.parametrize("size", range(7))
def test_padding_may_be_left_out(size):
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        text = encode(DATA[-size:] if size else b"").decode()
        assert decode_image("image", text.rstrip("="), 10) == (DATA[-size:] if size else b"")


@pytest.mark.parametrize(
    "text",
    [
        "&&&&",
        "AAAAA",
        "AA=",
        "AAA==",
        "A===",
        "AAAA=",
        "AA==AA",
        "=AAA",
        "+A-A",
        "AA_/",
        "ÀÀÀÀ",
        ".",
    ],
)
def test_other_texts_than_base64_are_refused(text):
    for given in (text, f"data:image/png;base64,{text}"):
        with pytest.raises(InvalidImageError):
            decode_image("image", given, 100)


@pytest.mark.parametrize("value", [None, True, 1, [PLAIN], {}, "data:image/png,AAAA", "data:AAAA"])
def test_other_types_than_text_are_refused(value):
    with pytest.raises(InvalidRequestError):
        decode_image("image", value, 10_000)


def test_base64_is_limited_in_size():
    for text in (PLAIN, URL_SAFE.rstrip("=")):
        with pytest.raises(ImageTooLargeError):
            decode_image("image", text, len(DATA) - 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b'{"a": 1, "a": 2}', "'a' is given twice"),
        (b'[{"a": {"b": 1, "c": 2, "b": 3}}]', "'b' is given twice"),
        (b'{"a": 1, "\\u0061": 2}', "twice"),
        (b'{"a\\u0000": 1}', "NUL"),
        (b'"\\ud800"', "not JSON"),
        (b'"\xed\xa0\x80"', "not JSON"),
        (b"NaN", "not JSON"),
        (b"[1e999]", "not JSON"),
        (b"[" * 100_000, "32 levels"),
        (b'{"a":' * 1000 + b"1" + b"}" * 1000, "32 levels"),
        ('{"a": 1}'.encode("utf-16"), "not JSON"),
        (b"", "not JSON"),
    ],
)
def test_invalid_json_is_refused(text, said):
    with pytest.raises(InvalidRequestError, match=said):
        parse_json(text)


@pytest.mark.parametrize(
    ("piece", "count", "said"),
    [
        (b"{},", 5000, "4096 objects"),
        (b'{"embedding":[1,2]},', 5000, "4096 objects"),
        (b'"",', 70_000, "65536 texts"),
        (b"1,", 300_000, "262144 values"),
        (b"[],", 300_000, "262144 values"),
    ],
)
def test_json_of_a_million_values_is_refused_before_it_is_parsed(piece, count, said):
    with pytest.raises(InvalidRequestError, match=said):
        # refused although it is not even JSON, so no parser saw it
        parse_json(b'{"a":[' + piece * count + b"x")


def test_the_largest_enrolment_is_within_the_limits_of_json():
    texts = {f"key_{number}": '{"[' * 80 for number in range(16)}
    given = [{"embedding": [-0.015625] * 4096, "subject": "a", "metadata": texts}] * 32
    assert parse_json(json.dumps({"embeddings": given}))["embeddings"] == given


@pytest.mark.parametrize(
    "given", [{"embedding": [None] * 4000}, {"embeddings": [{"embedding": ["x", "y"]}] * 4000}]
)
def test_of_many_wrong_values_one_is_reported(given):
    with pytest.raises(InvalidRequestError, match="embedding") as raised:
        read_fields(given, {}, EnrolIn)
    assert isinstance(raised.value.__cause__, ValidationError)
    assert raised.value.__cause__.error_count() == 1


def test_base64_with_needless_escapes_is_refused():
    text = "data:;base64," + "%41" * 5000
    with pytest.raises(InvalidImageError):
        decode_image("image", text, 10_000)
    with pytest.raises(ImageTooLargeError):
        decode_image("image", text, 2000)


@pytest.mark.parametrize("fill", ["%2B", "%2f", "%0D%0A%20AAAA"])
def test_base64_may_have_necessary_escapes(fill):
    text = "data:;base64," + fill * 8000
    plain = {"%2B": "+", "%2f": "/"}.get(fill, "AAAA") * 8000
    assert decode_image("image", text, 30_000) == base64.b64decode(plain)


class Inner(BaseModel):
    numbers: list[float]
    flag: bool = False


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")

    text: str = ""
    count: int = 0
    share: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    flag: bool = False
    numbers: list[float] | None = None
    inner: Inner | None = None
    inners: list[Inner] = Field(default_factory=list)
    more: dict[str, Any] = Field(default_factory=dict)


WRONG: dict[str, list[Any]] = {
    "text": [1, True, None, 1.5, [], {}],
    "count": [True, "1", 1.5, None, [1], {}],
    "share": [False, "0.5", [0.5], {}, -1],
    "flag": [0, 1, "true", "false", None, []],
    "numbers": [[True], ["1"], [None], [[1.0]], "1", {"0": 1.0}, 1.0],
    "inner": [[], {"numbers": ["1"]}, {"numbers": [1], "flag": 1}, {"numbers": [1], "flag": "no"}],
    "inners": [{}, [[1]], [{"numbers": [False]}]],
    "more": [[], "x", 1, [["a", 1]]],
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, vs in WRONG.items() for v in vs])
def test_json_of_another_type_is_refused(name, value):
    with pytest.raises(InvalidRequestError, match=f"field '{name}"):
        read_fields({name: value}, {}, Shape)


RIGHT = {
    "text": "true",
    "count": 3,
    "share": 1,
    "flag": True,
    "numbers": [1, 2.5],
    "inner": {"numbers": [1]},
    "inners": [{"numbers": [], "flag": True}],
    "more": {"a": [1, "x"]},
}


def test_json_of_the_right_types_is_accepted():
    assert read_fields(RIGHT, {}, Shape).model_dump() == {
        **RIGHT,
        "inner": {"numbers": [1.0], "flag": False},
    }
    assert read_fields({"count": 10.0}, {}, Shape).count == 10
    assert read_fields({"share": None, "numbers": None}, {}, Shape).share is None


def test_texts_are_parsed_by_the_type_of_their_field():
    texts = {
        "text": "[1",
        "count": "3",
        "share": "0.5",
        "flag": "true",
        "numbers": "[1, 2.5]",
        "inner": '{"numbers": [1]}',
        "inners": "[]",
        "more": ' {"a": "1"}',
    }
    fields = read_fields({}, texts, Shape)
    assert (fields.text, fields.count, fields.share, fields.flag) == ("[1", 3, 0.5, True)
    assert (fields.numbers, fields.more) == ([1.0, 2.5], {"a": "1"})
    assert fields.inner == Inner(numbers=[1])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("count", "x"),
        ("count", ""),
        ("share", "nan"),
        ("share", "-1"),
        ("flag", "maybe"),
        ("numbers", "1,2"),
        ("numbers", '["1"]'),
        ("numbers", "[true]"),
        ("inner", '{"numbers": [1], "numbers": [2]}'),
        ("inner", '{"numbers": [1], "flag": "true"}'),
        ("more", "[]"),
        ("more", "x"),
        ("text", "a\0b"),
        ("other", "x"),
    ],
)
def test_texts_of_another_type_are_refused(name, text):
    with pytest.raises(InvalidRequestError):
        read_fields({}, {name: text}, Shape)


@pytest.mark.parametrize(
    "values", [{"text": "\0"}, {"more": {"a": "\0"}}, {"more": {"a": [{"b": "x\0"}]}}]
)
def test_nul_is_refused_everywhere(values):
    with pytest.raises(InvalidRequestError, match="NUL"):
        read_fields(values, {}, Shape)
