"""What holds of every parser of what callers send, for inputs that hypothesis makes up.

`tests/fuzz/` states more of it, for inputs that coverage leads to.
"""

import base64
import io
import json
import string
import tarfile
import unicodedata
import zipfile
from contextlib import suppress
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.api.collections.schemas import CollectionIn, EnrolIn, SearchIn
from gateway.api.fields import decode_image, parse_json, read_fields
from gateway.api.forms import parse_header
from gateway.api.jobs.results import accepted_format
from gateway.api.jobs.sse import read_position
from gateway.api.jobs.upload_schemas import BatchOptions
from gateway.api.pagination import read_cursor, write_cursor
from gateway.archives.reader import read_members
from gateway.archives.types import Fault, OtherMember, RefusedMember
from gateway.collections.base import check_metadata
from gateway.collections.names import subject_name, subject_of_file, subject_of_folder
from gateway.errors import AurumError, InvalidRequestError, UnauthorizedError
from gateway.json_limits import JsonBounds
from gateway.kserve.document import parse_document
from gateway.kserve.tensors import join_elements, split_elements
from gateway.security.api_keys import ApiKey
from gateway.security.credentials import read_credentials
from tests.fuzz.seeds import all_seeds
from tests.fuzz.targets import TARGETS, load

TEXT = st.text(max_size=60)
ASCII = st.text(string.printable, max_size=80)
SCALAR = st.none() | st.booleans() | st.integers() | st.floats() | TEXT
JSON = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4)
)
NAMES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=60
) | st.lists(st.sampled_from(["..", ".", "a.jpg", "b", "C:", ""]), min_size=1, max_size=4).map(
    "/".join
).filter(bool)
PRETTY_FAST = settings(deadline=None, max_examples=60)


@PRETTY_FAST
@given(st.binary(max_size=200), st.booleans(), st.booleans(), st.booleans(), st.integers(0, 5))
def test_every_way_to_write_base64_gives_the_same_bytes(data, url_safe, padded, as_uri, blanks):
    text = (base64.urlsafe_b64encode if url_safe else base64.b64encode)(data).decode()
    if not padded:
        text = text.rstrip("=")
    text = "\r\n \t".join(text[at : at + 19] for at in range(0, len(text), 19)) + " " * blanks
    if as_uri:
        text = "data:image/png;base64," + quote(text)
    assert decode_image("image", text, 10_000) == data


@PRETTY_FAST
@given(TEXT | ASCII | st.binary(max_size=60).map(lambda data: base64.b64encode(data).decode()[1:]))
def test_other_texts_are_bytes_or_refused(text):
    with suppress(AurumError):
        assert len(decode_image("image", text, 40)) <= 40


@PRETTY_FAST
@given(
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
)
def test_a_cursor_is_read_as_it_was_written(number, text):
    assert read_cursor(write_cursor(number, text), float, str) == (number, text)
    with pytest.raises(InvalidRequestError):
        read_cursor(write_cursor(number, text), str, float)


@PRETTY_FAST
@given(st.integers(0, 67), st.characters())
def test_a_key_with_another_character_is_none(at, character):
    key = ApiKey.generate().text
    assert ApiKey.parse(key) is not None
    changed = key[:at] + character + key[at + 1 :]
    assert changed == key or ApiKey.parse(changed) is None


@PRETTY_FAST
@given(st.dictionaries(st.sampled_from(["Authorization", "X-API-Key", "x-api-key"]), ASCII))
def test_credentials_are_read_or_refused_without_quoting_them(headers):
    said = ""
    try:
        found = read_credentials(headers)
    except UnauthorizedError as error:
        said = error.detail
    else:
        assert any(found.text in text for text in headers.values())
        said = repr(found)
    assert all(len(text) < 12 or text not in said for text in headers.values())


@PRETTY_FAST
@given(st.integers(1, 40), st.integers(-1, 1) | st.integers(-39, 39))
def test_depth_is_counted_as_it_is(limit, more):
    depth = max(limit + more, 0)
    bounds = JsonBounds(depth=limit, objects=100, texts=100)
    text = b'{"a":' * (depth // 2) + b"[" * (depth - depth // 2)
    text += (b"]" * (depth - depth // 2) + b"}" * (depth // 2)) or b"1"
    if depth <= limit:
        assert parse_json(text, bounds=bounds) == json.loads(text)
    else:
        with pytest.raises(InvalidRequestError, match="levels"):
            parse_json(text, bounds=bounds)


@PRETTY_FAST
@given(st.lists(st.text('[]{}",\\ab', max_size=30), max_size=20))
def test_brackets_and_quotes_within_texts_are_no_structure(texts):
    bounds = JsonBounds(depth=1, objects=0, texts=20)
    assert parse_json(json.dumps(texts).encode(), bounds=bounds) == texts


@PRETTY_FAST
@given(JSON, st.sampled_from([CollectionIn, EnrolIn, SearchIn]))
def test_fields_are_of_their_types_or_refused(value, shape):
    names = sorted(shape.model_fields)
    for name in (names[0], names[-1], "metadata"):
        try:
            read = read_fields({name: value}, {}, shape)
        except InvalidRequestError:
            continue
        assert shape.model_validate(read.model_dump()) == read


@PRETTY_FAST
@given(TEXT | ASCII | JSON.map(json.dumps))
def test_texts_of_fields_are_of_their_types_or_refused(text):
    for name in ("max_faces", "min_confidence", "metadata", "embedding", "subject", "faces"):
        try:
            read = getattr(read_fields({}, {name: text}, EnrolIn), name)
        except InvalidRequestError:
            continue
        assert name != "max_faces" or 1 <= read <= 512
        assert name != "min_confidence" or 0 <= read <= 1


@PRETTY_FAST
@given(st.dictionaries(TEXT, JSON, max_size=5))
def test_metadata_is_flat_finite_and_small_or_refused(metadata):
    try:
        checked = check_metadata(metadata, max_entries=3)
    except InvalidRequestError:
        return
    assert len(checked) <= 3
    assert json.loads(json.dumps(checked, allow_nan=False)) == checked
    assert all(isinstance(value, bool | int | float | str) for value in checked.values())


@PRETTY_FAST
@given(st.text(max_size=140) | st.text("a\u0301 .é", max_size=12))
def test_a_name_stays_what_it_is_and_shows_all_of_itself(text):
    for read in (subject_name, subject_of_file, subject_of_folder):
        try:
            name = read(text)
        except ValueError:
            continue
        assert subject_name(name) == name == unicodedata.normalize("NFC", name)
        assert 1 <= len(name) <= 128
        assert name.strip() == name
        assert not {unicodedata.category(each) for each in name} & {"Cc", "Cs", "Zl", "Zp"}
        name.encode()


@PRETTY_FAST
@given(TEXT | ASCII)
def test_headers_with_choices_give_one_of_them(text):
    assert accepted_format(text) in ("json", "ndjson", "csv")
    kind, parameters = parse_header(text)
    assert kind == kind.strip().lower()
    assert all(name == name.strip().lower() for name in parameters)
    with suppress(InvalidRequestError):
        assert 0 <= read_position(text).sequence < 1 << 63


@PRETTY_FAST
@given(ASCII | JSON.map(json.dumps))
def test_metadata_in_a_query_is_an_object_or_refused(text):
    try:
        options = BatchOptions.model_validate({"operation": "enrol", "metadata": text})
    except (ValueError, InvalidRequestError):
        return
    assert isinstance(options.metadata, dict)


@pytest.mark.parametrize("text", ['{"a":1,"a":2}', '{"a":' * 60, '{"a\\u0000":1}', "{"])
def test_metadata_in_a_query_is_read_as_strictly_as_in_a_body(text):
    with pytest.raises(InvalidRequestError, match=r"metadata|JSON|NUL"):
        BatchOptions.model_validate({"operation": "enrol", "metadata": text})


@PRETTY_FAST
@given(st.dictionaries(st.sampled_from(["id", "inputs", "outputs", "parameters", "x"]), JSON))
def test_requests_of_kserve_are_read_or_refused(value):
    try:
        read = parse_document(json.dumps(value).encode())
    except InvalidRequestError:
        return
    assert read.id == value.get("id", "")
    assert len(read.inputs) == len(value["inputs"])


@PRETTY_FAST
@given(st.lists(st.binary(max_size=30), max_size=6), st.binary(max_size=3))
def test_elements_of_a_tensor_are_split_as_they_were_joined(elements, more):
    packed = join_elements(elements)
    assert split_elements("x", packed, count=len(elements)) == elements
    if more:
        with pytest.raises(InvalidRequestError):
            split_elements("x", packed + more, count=len(elements))


@PRETTY_FAST
@given(NAMES)
def test_members_of_archives_keep_their_names_or_are_refused(name):
    packed, target = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), b"\xff\xd8\xff")
    with tarfile.open(fileobj=target, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.size = 3
        archive.addfile(info, io.BytesIO(b"\xff\xd8\xff"))
    for file in (packed, target):
        for member in read_members(file):
            parts = name.replace("\\", "/").split("/")
            if isinstance(member, RefusedMember):
                assert member.fault is not Fault.TOO_LARGE
                continue
            assert ".." not in parts
            assert not name.startswith(("/", "\\"))
            assert isinstance(member, OtherMember) or member.data == b"\xff\xd8\xff"


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_what_fuzzing_states_holds_for_damaged_seeds(data):
    name = data.draw(st.sampled_from(sorted(TARGETS)))
    seed = bytearray(data.draw(st.sampled_from(SEEDS[name])))
    for at, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(seed)), st.integers(0, 255)), max_size=6)
    ):
        seed[at : at + 1] = bytes([value])
    load(name)(bytes(seed[: data.draw(st.integers(0, len(seed)))]))


SEEDS = {name: list(seeds) for name, seeds in all_seeds().items()}
