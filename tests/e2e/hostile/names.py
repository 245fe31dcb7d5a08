"""Names in paths, queries and cursors: they climb, hide, overflow or break a query."""

import base64
from collections.abc import Iterator
from urllib.parse import quote

from tests.e2e.hostile.case import FINE, INVALID, NOT_FOUND, Case, Expected
from tests.e2e.hostile.wire import (
    BATCH,
    COLLECTION,
    COLLECTIONS,
    DETECT,
    GOOD,
    JSON,
    KEYS,
    SCORE,
    document,
    head,
    post,
)

_TEXTS = {
    "that climbs out": "../../etc/passwd",
    "that is a dot": ".",
    "of two dots": "..",
    "with a backslash": "..\\..\\x",
    "of SQL": "x' OR '1'='1",
    "of two statements": "x'; DROP TABLE faces; --",
    "of a template": "{{7*7}}${7*7}",
    "of a format": "%s%n{0.__class__}",
    "with markup": "<script>alert(1)</script>",
    "with a line break": "x\r\nX-Injected: 1",
    "with a blank at its end": "x ",
    "with an invisible character": "x\u200bx",
    "written from right to left": "\u202eada",
    "of half a character": "%ED%A0%80",
    "of a non-character": "\uffff",
    "of 2,000 characters": "n" * 2000,
    "of 1,000 accents": "a" + "\u0301" * 1000,
    "of a command": "$(reboot)",
    "of an address": "http://169.254.169.254/",
}
_JOB, _FACES = "/api/ml/jobs", f"{COLLECTIONS}/{COLLECTION}/faces"


def cases() -> Iterator[Case]:
    """Yield all names."""
    for name, text in _TEXTS.items():
        path = text if text.startswith("%ED") else quote(text, safe="")
        if text not in (".", ".."):
            yield Case("names", f"name {name}", _in_paths(path), NOT_FOUND)
        created = {"create": document(COLLECTIONS, {"name": text})}
        yield Case("names", f"collection {name}", created, INVALID)
    for name, text in _subjects().items():
        sent = {
            "enrol": document(_FACES, {"embedding": [0.1] * 9, "space": "0" * 16, "subject": text}),
            "batch": post(
                f"{BATCH}?operation=enrol&collection={COLLECTION}&subject={quote(text)}", b"", JSON
            ),
        }
        yield Case("names", f"subject {name}", sent, INVALID)
    yield Case("names", "name of NUL", _in_paths("a%00b"), NOT_FOUND)
    yield from _queries()
    yield from _cursors()


def _in_paths(name: str) -> dict[str, bytes]:
    return {
        "collection": head("GET", f"{COLLECTIONS}/{name}"),
        "its change": document(f"{COLLECTIONS}/{name}", {"description": "x"}, "PATCH"),
        "subject": head("GET", f"{COLLECTIONS}/{COLLECTION}/subjects/{name}"),
        "face": head("DELETE", f"{_FACES}/{name}"),
        "crop": head("GET", f"{_FACES}/{name}/crop"),
        "job": head("GET", f"{_JOB}/{name}"),
        "its results": head("GET", f"{_JOB}/{name}/results"),
        "its end": head("DELETE", f"{_JOB}/{name}"),
        "key": head("DELETE", f"{KEYS}/{name}"),
        "file of the docs": head("GET", f"/api/docs/{name}"),
    }


def _subjects() -> dict[str, str]:
    return {
        "of NUL": "a\0b",
        "of a dot": ".",
        "of two dots": "..",
        "of nothing": "",
        "of blanks": "   ",
        "with a line break": "a\nb",
        "with a paragraph": "a\u2029b",
        "with an invisible character": "a\u200bb",
        "written from right to left": "\u202eada",
        "of 129 characters": "n" * 129,
        "of 600 accents": "a" + "\u0301" * 600,
        "of controls": "\x1b[31mred\x1b[0m",
    }


def _queries() -> Iterator[Case]:
    many = "&".join(f"p{number}=1" for number in range(500))
    queries: dict[str, str] = {
        "query of an unknown name": "colour=red",
        "query of __proto__": "__proto__[admin]=1",
        "query of 500 names": many,
        "query given twice": "max_faces=1&max_faces=2",
        "query of a huge number": "max_faces=" + "9" * 5000,
        "query of a number below zero": "max_faces=-1",
        "query of other digits": "max_faces=%D9%A1",
        "query of not a number": "min_confidence=nan",
        "query of infinity": "min_confidence=1e999",
        "query of NUL": "rotation=off%00",
        "query that is no text": "rotation=%FF%FE",
        "query of half an escape": "rotation=%F",
        "query of markup": "include=<script>alert(1)</script>",
        "query of a line break": "rotation=a%0D%0AX-Injected:1",
        "query of half a character": "rotation=%ED%A0%80",
    }
    for name, query in queries.items():
        sent = {
            "detect": post(f"{DETECT}?{query}", GOOD, "Content-Type: image/jpeg"),
            "score": post(f"{SCORE}?{query}", GOOD, "Content-Type: image/jpeg"),
            "batch": post(f"{BATCH}?{query}", b"{}", JSON),
        }
        yield Case("names", name, sent, INVALID)
    deep = "[" * 3000 + "]" * 3000
    for name, query in {
        "metadata of 3,000 brackets": f"metadata={deep}",
        "metadata given twice in JSON": 'metadata={"a":1,"a":2}',
        "webhook into this machine": "webhook=http://127.0.0.1:22/",
        "webhook of a file": "webhook=file:///etc/passwd",
        "wait of 1e300 seconds": "wait=1e300",
    }.items():
        path = f"{BATCH}?operation=enrol&collection={COLLECTION}&{query}"
        forbidden: dict[str, Expected] = {}
        if name.startswith("webhook"):
            forbidden = {"batch": (403, "forbidden")}
        yield Case("names", name, {"batch": post(path, b"{}", JSON)}, INVALID, forbidden)


def _packed(text: bytes) -> str:
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def _cursors() -> Iterator[Case]:
    lists = {
        "collections": COLLECTIONS,
        "faces": _FACES,
        "subjects": f"{COLLECTIONS}/{COLLECTION}/subjects",
        "jobs": _JOB,
        "keys": KEYS,
        "audit": "/api/admin/audit",
    }
    cursors = {
        "of nothing": "",
        "of noise": "%%%",
        "of no base64": "!!!!",
        "of base64 of noise": _packed(b"\xff\xfe\xfd"),
        "of an object": _packed(b'{"a":1}'),
        "of a number": _packed(b"7"),
        "of null": _packed(b"[null]"),
        "of true": _packed(b"[true]"),
        "of a list in a list": _packed(b'[["a"]]'),
        "of too many values": _packed(b'["a","b","c"]'),
        "of 600 brackets": _packed(b"[" * 600),
        "of NUL": _packed(b'["a\\u0000", "b"]'),
        "of a number beyond 64 bits": _packed(b"[99999999999999999999999999]"),
        "of infinity": _packed(b"[1e999]"),
        "of 2,000 characters": "A" * 2000,
    }
    for name, cursor in cursors.items():
        sent = {
            route: head("GET", f"{path}?cursor={quote(cursor)}") for route, path in lists.items()
        }
        yield Case("cursors", f"cursor {name}", sent, INVALID)
    far = {
        "audit": head("GET", f"/api/admin/audit?cursor={_packed(b'[18446744073709551615]')}"),
        "jobs": head(
            "GET", f"{_JOB}?cursor={_packed(b'[1e308, chr]'.replace(b'chr', bytes([34, 120, 34])))}"
        ),
    }
    yield Case("cursors", "cursor far beyond the end", far, FINE)
