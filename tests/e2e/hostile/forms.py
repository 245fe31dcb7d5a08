"""Multipart forms that are malformed, hide fields, nest, or have thousands of parts."""

from collections.abc import Iterator

from tests.e2e.hostile.case import ACCEPTED, BAD_IMAGE, FINE, INVALID, TOO_LARGE, UNKNOWN_TYPE, Case
from tests.e2e.hostile.wire import (
    BATCH,
    DETECT,
    ENROL,
    FORM,
    GOOD,
    SCORE,
    SEARCH,
    VERIFY,
    form,
    head,
    part,
    post,
)

_IMAGE = part('name="image"; filename="a.jpg"', GOOD)
_ROUTES = {"score": SCORE, "search": SEARCH, "enrol": ENROL}


def cases() -> Iterator[Case]:
    """Yield all forms."""
    for name, body in _malformed().items():
        sent = {route: post(path, body, FORM) for route, path in _ROUTES.items()}
        yield Case("forms", name, sent | {"batch": post(BATCH, body, FORM)}, INVALID)
    for name, line in _types().items():
        sent = {route: post(path, _IMAGE + b"--b--\r\n", line) for route, path in _ROUTES.items()}
        yield Case("forms", name, sent, INVALID)
    for name, parts in _wrong_fields().items():
        sent = {route: form(path, *parts) for route, path in _ROUTES.items()}
        yield Case("forms", name, sent, INVALID)
    yield from _others()
    yield from _file_names()


def _malformed() -> dict[str, bytes]:
    heads = b"X: y\r\n" * 200
    return {
        "form without a boundary in it": b"hello",
        "form that is not closed": _IMAGE,
        "form that ends within a boundary": _IMAGE + b"--",
        "form with another boundary": _IMAGE.replace(b"--b", b"--c") + b"--c--\r\n",
        "form of line feeds": (_IMAGE + b"--b--\r\n").replace(b"\r\n", b"\n"),
        "form whose head never ends": b"--b\r\nContent-Disposition: form-data" + b"x" * 90_000,
        "form with 200 heads in a part": b"--b\r\n" + heads + b"\r\nx\r\n--b--\r\n",
        "form with a head of 60 KB": b"--b\r\nX: " + b"y" * 60_000 + b"\r\n\r\nx\r\n--b--\r\n",
        "form with a part of no name": b"--b\r\n\r\nx\r\n--b--\r\n",
        "form of 20,000 parts": part('name="x"', b"") * 20_000 + b"--b--\r\n",
        "form of 3,000 parts without a name": b"--b\r\n\r\n\r\n" * 3000 + b"--b--\r\n",
        "form with a form in it": part(
            'name="image"', b"--c\r\n\r\nx\r\n--c--", "Content-Type: multipart/mixed; boundary=c"
        )
        + b"--b--\r\n",
        "form with base64 in a part": part(
            'name="image"', b"aGk=", "Content-Transfer-Encoding: base64"
        )
        + b"--b--\r\n",
        "form with NUL in a name": part(b'name="im\0age"', GOOD) + b"--b--\r\n",
        "form with bytes that are no text in a name": part(b'name="\xff\xfe"', GOOD) + b"--b--\r\n",
        "form with a name of 30 KB": part('name="' + "n" * 30_000 + '"', b"x") + b"--b--\r\n",
        "form with markup as a name": part('name="<script>alert(1)</script>"', b"x") + b"--b--\r\n",
        "form with a name over two lines": part('name="a\r\nX-Injected: 1"', b"x") + b"--b--\r\n",
    }


def _types() -> dict[str, str]:
    kind = "Content-Type: multipart/form-data"
    return {
        "form whose type has no boundary": kind,
        "form whose boundary is empty": f'{kind}; boundary=""',
        "form whose boundary has 2,000 characters": f"{kind}; boundary={'b' * 2000}",
        "form whose boundary is not ASCII": f"{kind}; boundary=bé",
        "form with a thousand parameters": kind + ";a=b" * 1000,
        "form whose boundary is split": f"{kind}; boundary*0=b; boundary*1=c",
    }


def _wrong_fields() -> dict[str, tuple[bytes, ...]]:
    return {
        "form with an unknown field": (_IMAGE, part('name="colour"', b"red")),
        "form with a proto field": (_IMAGE, part('name="__proto__"', b"{}")),
        "form with a number of a million digits": (
            _IMAGE,
            part('name="max_faces"', b"9" * 1_000_000),
        ),
        "form with a number of other digits": (_IMAGE, part('name="max_faces"', "٣۴\0".encode())),
        "form with infinity": (_IMAGE, part('name="min_confidence"', b"Infinity")),
        "form with not a number": (_IMAGE, part('name="min_confidence"', b"nan")),
        "form with a field that is no text": (_IMAGE, part('name="rotation"', b"\xff\xfe\xfd")),
        "form with text in a strange charset": (
            _IMAGE,
            part('name="rotation"', b"+ADw-", "Content-Type: text/plain; charset=utf-7"),
        ),
    }


def _others() -> Iterator[Case]:
    twice = {
        "score": form(SCORE, _IMAGE, _IMAGE),
        "verify": form(VERIFY, part('name="image_a"', GOOD) * 2),
    }
    yield Case("forms", "form with an image twice", twice, INVALID)
    missing = {"verify": form(VERIFY, part('name="image_a"', GOOD)), "score": form(SCORE)}
    yield Case("forms", "form without an image", missing, INVALID)
    crowd = form(ENROL, *[part('name="images"', b"")] * 200)
    yield Case("forms", "form with 200 images", {"enrol": crowd}, INVALID)
    empty = {
        "score": form(SCORE, part('name="image"', b"")),
        "batch": form(BATCH, part('name="images"', b"")),
    }
    yield Case("forms", "form with an image of no bytes", empty, BAD_IMAGE, {"batch": ACCEPTED})
    big = form(SCORE, part('name="image"', GOOD + bytes(11 << 20)))
    yield Case("forms", "form with an image of 11 MB", {"score": big}, TOO_LARGE)
    announced = {
        route: head("POST", path, FORM, "Content-Length: 999999999999")
        for route, path in (_ROUTES | {"batch": BATCH}).items()
    }
    yield Case("forms", "form that announces a terabyte", announced, TOO_LARGE)
    field = form(
        ENROL, _IMAGE.replace(b'"image"', b'"images"'), part('name="metadata"', b"[" * 100_000)
    )
    yield Case("forms", "form with deep JSON in a field", {"enrol": field}, INVALID)
    wrong = {
        "score": form(SCORE, part('name="images"', GOOD)),
        "batch": form(BATCH, part('name="image"', GOOD)),
    }
    yield Case("forms", "form with a field of another route", wrong, INVALID)
    preamble = b"<script>" + b"\r\n" * 500 + _IMAGE + b"--b--\r\n" + b"epilogue" * 500
    yield Case("forms", "form with text around it", {"score": post(SCORE, preamble, FORM)}, FINE)
    packed = {"score": post(SCORE, b"\x1f\x8b", FORM, "Content-Encoding: gzip")}
    yield Case("forms", "form that is compressed", packed, UNKNOWN_TYPE)


def _file_names() -> Iterator[Case]:
    """A file's name is only a text, whatever it says."""
    names = {
        "that climbs out": b"../../../../etc/passwd",
        "of a device": b"C:\\\\CON",
        "with NUL": b"a\0.jpg",
        "with quotes": b'a\\".jpg\\"; name=\\"x',
        "with a line break in it": b"a%0d%0aX-Injected: 1.jpg",
        "that is no text": b"\xff\xfe\xfd",
        "of 20 KB": b"n" * 20_000,
        "with markup": b"<img src=x onerror=alert(1)>.jpg",
        "of a command": b"$(reboot)`reboot`|reboot;.jpg",
        "written from right to left": "\u202egpj.exe".encode(),
        "of a template": b"{{7*7}}${7*7}",
    }
    for name, text in names.items():
        field = part(b'name="image"; filename="' + text + b'"', GOOD)
        yield Case("forms", f"file name {name}", {"score": form(SCORE, field)}, FINE)
    encoded = "name=\"image\"; filename*=UTF-8''..%2F..%2F%00%0d%0aX-Injected:%201"
    yield Case(
        "forms", "file name that is encoded", {"score": form(SCORE, part(encoded, GOOD))}, FINE
    )
    split = 'name="image"; filename*0="../"; filename*1*=%2e%2e%2f; filename*999="x"'
    yield Case("forms", "file name in sections", {"score": form(SCORE, part(split, GOOD))}, FINE)
    slow = 'name="image"; filename="' + '\\"' * 15_000
    yield Case(
        "forms", "file name of 15,000 quotes", {"score": form(SCORE, part(slow, GOOD))}, FINE
    )
    many = 'name="image"' + ';a="' * 8000
    yield Case("forms", "8,000 parameters", {"score": form(SCORE, part(many, GOOD))}, FINE)
    raw = post(DETECT, GOOD, "Content-Type: image/jpeg; name=" + "x" * 4000)
    yield Case("forms", "picture whose type has 4 KB", {"detect": raw}, FINE)
