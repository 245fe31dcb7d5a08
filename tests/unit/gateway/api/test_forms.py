"""Multipart forms: every file name, every way to split the bytes, and malformed bodies."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.forms import FormParser, Part, PartEnd, parse_header
from gateway.errors import InvalidRequestError


def read(body: bytes, *, boundary: str = "b", size: int | None = None) -> list[tuple[Part, bytes]]:
    """Parse a body that arrives in pieces of `size` bytes."""
    parser = FormParser(boundary)
    parts: list[tuple[Part, bytes]] = []
    head, data = None, b""
    size = size or max(len(body), 1)
    for at in range(0, len(body), size):
        for event in parser.feed(body[at : at + size]):
            if isinstance(event, Part):
                head, data = event, b""
            elif isinstance(event, PartEnd):
                assert head is not None
                parts.append((head, data))
            else:
                data += event
    parser.finish()
    return parts


def part(disposition: str | bytes, data: bytes = b"x", more: bytes = b"") -> bytes:
    if isinstance(disposition, str):
        disposition = disposition.encode()
    head = b"--b\r\nContent-Disposition: form-data; " + disposition + b"\r\n" + more
    return head + b"\r\n" + data + b"\r\n"


def names(disposition: str | bytes) -> tuple[str, str | None]:
    """Read the name of the field and of the file."""
    ((head, data),) = read(part(disposition) + b"--b--\r\n")
    assert data == b"x"
    return head.name, head.file_name


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ('filename="a.jpg"', "a.jpg"),
        ('filename="a;b.jpg"', "a;b.jpg"),
        ('filename="a; name=x; b.jpg"', "a; name=x; b.jpg"),
        ('filename="O\'Brien.jpg"', "O'Brien.jpg"),
        ("filename=O'Brien.jpg", "O'Brien.jpg"),
        ("filename=two words.jpg", "two words.jpg"),
        ('filename="&#1088;&#1055;.jpg"', "&#1088;&#1055;.jpg"),
        ("filename*=UTF-8''O%27Brien%20%E6%9D%8E.jpg", "O'Brien 李.jpg"),
        ("filename*=utf-8'en'%e2%82%ac.jpg", "€.jpg"),
        ("filename*=ISO-8859-1''%e9.jpg", "é.jpg"),
        ("filename=\"plain.jpg\"; filename*=UTF-8''%E6%9D%8E.jpg", "李.jpg"),
        ("filename*=UTF-8''%E6%9D%8E.jpg; filename=\"plain.jpg\"", "李.jpg"),
        ("filename*=UTF-8''a%ZZ%FF", "a%ZZ\ufffd"),
        ("filename*=x-unknown''%C3%A9", "é"),
        ("filename*=punycode''abc", "abc"),
        ("filename*=no quotes", "no quotes"),
        ('filename*0="long "; filename*1="name.jpg"', "long name.jpg"),
        ("filename*0*=UTF-8''%E6%9D; filename*1*=%8E; filename*2=\".jpg\"", "李.jpg"),
        ('filename*1="b"; filename*0="a"', "ab"),
        ('filename="a\\"b.jpg"', 'a"b.jpg'),
        ('filename="a"b".jpg"', 'a"b".jpg'),
        ('filename="C:\\\\a.jpg"', "C:\\a.jpg"),
        ('filename="C:\\a.jpg"', "C:\\a.jpg"),
        ('filename="a\\"', "a\\"),
        ('filename="unclosed', "unclosed"),
        ('filename="李明.jpg"', "李明.jpg"),
        (b'filename="\xe9\xff.jpg"', "éÿ.jpg"),
        ('filename="a\nb\x00.jpg"', "a\nb\x00.jpg"),
        ('filename="' + "n" * 60_000 + '"', "n" * 60_000),
        ('FileName = "a.jpg"', "a.jpg"),
        ('filename="a.jpg"; filename="b.jpg"', "a.jpg"),
        ('filename="a.jpg";; x; size=1;', "a.jpg"),
        ('filename=""', None),
        ("filename=", None),
        ("filename", None),
        ("", None),
    ],
)
def test_file_names_are_read(sent, expected):
    sent = sent if isinstance(sent, bytes) else sent.encode()
    assert names(b'name="image"; ' + sent) == ("image", expected)
    if expected is not None and b"unclosed" not in sent:
        assert names(sent + b'; name="image"')[0] == "image"


@pytest.mark.parametrize(
    "sent", ["name=image", "NAME = image", "name*=utf-8''image", 'name="image";', 'x; name="image"']
)
def test_field_names_are_read(sent):
    assert names(sent)[0] == "image"


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=60))
def test_no_file_name_changes_the_name_of_the_field(name):
    assert names(f'name="image"; filename="{name}"')[0] == "image"
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    assert names(f'name="image"; filename="{escaped}"') == ("image", name or None)


FORM = (
    b"a preamble\r\n"
    + part(
        'name="image"; filename="a"', b"\r\n--b\x00\r\n--bb\r\n-", b"Content-Type: image/png\r\n"
    )
    + part('name="empty"', b"")
    + part('name="text"', "é".encode("latin-1"), b"content-type: text/plain; charset=latin1\r\n")
    + b"--b \t\r\n\r\nwithout headers\r\n--b--\r\nan epilogue\r\n--b\r\n"
)


@pytest.mark.parametrize("size", range(1, 40))
def test_pieces_of_any_size_give_the_same_parts(size):
    parts = read(FORM, size=size)
    assert [data for _, data in parts] == [
        b"\r\n--b\x00\r\n--bb\r\n-",
        b"",
        b"\xe9",
        b"without headers",
    ]
    assert [head.name for head, _ in parts] == ["image", "empty", "text", ""]
    assert parts[0][0].content_type == "image/png"
    assert parts[2][0].charset == "latin1"


@given(st.binary(max_size=300), st.integers(1, 50))
def test_any_bytes_are_passed_on(data, size):
    ((_, got),) = read(part('name="image"', data) + b"--b--", size=size) or [(None, data)]
    assert got == data or b"\r\n--b" in b"\r\n" + data


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--b",
        b"--b\r\n",
        part('name="image"'),
        part('name="image"')[:-4],
        b"--c\r\n\r\n--c--",
        b"--b\r\n" + b"a: b\r\n" * 200 + b"\r\nx\r\n--b--",
        b"--b\r\nX: " + b"a" * 20_000 + b"\r\n\r\nx\r\n--b--",
        b"--b\r\n" + b"a" * 100_000,
    ],
)
def test_malformed_forms_are_refused(body):
    with pytest.raises(InvalidRequestError):
        read(body, size=1000)


@pytest.mark.parametrize("boundary", ["", "b" * 257, "é"])
def test_invalid_boundaries_are_refused(boundary):
    with pytest.raises(InvalidRequestError):
        FormParser(boundary)


def test_parsing_buffers_little():
    parser = FormParser("b")
    list(parser.feed(part('name="image"')[:-3]))
    for _ in range(100):
        list(parser.feed(bytes(10_000)))
    assert len(parser._buffer) < 10


def test_a_header_of_many_parameters_is_read_quickly():
    kind, parameters = parse_header("Form-Data; " + "a=b;" * 100_000)
    assert (kind, parameters) == ("form-data", {"a": "b"})
    assert parse_header("") == ("", {})
    assert parse_header('text/plain; Charset="utf-8"') == ("text/plain", {"charset": "utf-8"})


def test_headers_that_never_end_are_refused_before_the_body_does():
    parser = FormParser("b")
    list(parser.feed(b'--b\r\nContent-Disposition: form-data; name="a"; filename="'))
    list(parser.feed(b"x" * 60_000))
    with pytest.raises(InvalidRequestError, match="headers"):
        list(parser.feed(b"x" * 10_000))


def test_a_header_may_continue_on_the_next_line():
    ((head, _),) = read(part('name="a";\r\n  filename="b.jpg"') + b"--b--\r\n")
    assert (head.name, head.file_name) == ("a", "b.jpg")


def test_many_headers_are_refused_by_their_number():
    more = b"".join(b"X-%d: 1\r\n" % number for number in range(200))
    with pytest.raises(InvalidRequestError, match="too many headers"):
        read(part('name="a"', more=more) + b"--b--\r\n")
