"""Headers that no client should send: credentials, keys, ids, types, encodings, ranges."""

from collections.abc import Iterator

from tests.e2e.hostile.case import FINE, INVALID, UNKNOWN_TYPE, Case
from tests.e2e.hostile.wire import (
    BATCH,
    COLLECTION,
    COLLECTIONS,
    DETECT,
    ENROL,
    FORM,
    GOOD,
    JSON,
    head,
    post,
)

_LIVE = "/api/health/live"
_TYPE = "Content-Type: image/jpeg"


def cases() -> Iterator[Case]:
    """Yield all headers."""
    for name, line in _harmless().items():
        sent = {
            "detect": post(DETECT, GOOD, _TYPE, line),
            "live": head("GET", _LIVE, line),
            "list": head("GET", COLLECTIONS, line),
        }
        yield Case("headers", name, sent, FINE)
    for name, key in _idempotency_keys().items():
        line = b"Idempotency-Key: " + key
        sent = {
            "enrol": _enrolment(line),
            "batch": post(BATCH, b'{"images":["eA"]}', JSON, line),
        }
        yield Case("headers", f"idempotency key {name}", sent, INVALID)
    for name, kind in _types().items():
        sent = {
            "detect": post(DETECT, GOOD, b"Content-Type: " + kind),
            "enrol": post(ENROL, GOOD, b"Content-Type: " + kind),
            "batch": post(BATCH, GOOD, b"Content-Type: " + kind),
        }
        yield Case("headers", f"content type {name}", sent, UNKNOWN_TYPE)
    for coding in ("gzip", "deflate", "br", "zstd", "gzip, gzip, gzip", "compress", "x" * 4000):
        sent = {
            "detect": post(DETECT, GOOD, _TYPE, f"Content-Encoding: {coding}"),
            "create": post(COLLECTIONS, b"{}", JSON, f"Content-Encoding: {coding}"),
            "batch": post(
                BATCH, GOOD, "Content-Type: application/zip", f"Content-Encoding: {coding}"
            ),
        }
        yield Case("headers", f"content encoding {coding[:20]}", sent, UNKNOWN_TYPE)
    for name, text in _event_ids().items():
        path = f"/api/ml/jobs/{COLLECTION}/events"
        sent = {"events": head("GET", path, b"Last-Event-ID: " + text)}
        yield Case("headers", f"last event {name}", sent, (404, "not_found"))


def _enrolment(line: bytes) -> bytes:
    """Write an enrolment without a field."""
    return post(ENROL, b"--b--\r\n", FORM, line)


def _harmless() -> dict[str, bytes]:
    """Headers that must change nothing."""
    return {
        "accept of 8 KB": b"Accept: " + b"a/b;q=0.1," * 800,
        "accept of nonsense": b"Accept: ;;;,,,=;q=q;q=-1",
        "accept of HTML": b"Accept: text/html",
        "accept of an unknown encoding": b"Accept-Encoding: identity;q=0, *;q=0",
        "accept of 2,000 encodings": b"Accept-Encoding: " + b"gzip," * 1600,
        "language of noise": b"Accept-Language: \xff\xfe",
        "range": b"Range: bytes=0-0",
        "ranges that overlap": b"Range: bytes=" + b"0-," * 2000,
        "range below zero": b"Range: bytes=-99999999999999999999",
        "condition of the past": b"If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT",
        "condition of nonsense": b"If-Modified-Since: \x80 yesterday",
        "condition of any tag": b"If-None-Match: *",
        "condition of a tag of 4 KB": b'If-Match: "' + b"x" * 4000 + b'"',
        "date of the year 99999": b"If-Unmodified-Since: Fri, 31 Dec 99999 23:59:59 GMT",
        "request id of 7 KB": b"X-Request-ID: " + b"x" * 7000,
        "request id of noise": b"X-Request-ID: \xff\xfe\xfd",
        "request id of blanks": b"X-Request-ID: a b c",
        "request id with markup": b"X-Request-ID: <script>alert(1)</script>",
        "cookie of 7 KB": b"Cookie: " + b"a=b; " * 1500,
        "cookie of nonsense": b'Cookie: "="=;=;;;"',
        "address behind a proxy": b"X-Forwarded-For: 127.0.0.1, ::1, <script>",
        "host behind a proxy": b"X-Forwarded-Host: evil.example",
        "forwarding of nonsense": b'Forwarded: for="[::1";proto=;by="',
        "path behind a proxy": b"X-Original-URL: /api/admin/keys",
        "another method": b"X-HTTP-Method-Override: DELETE",
        "referrer with a secret": b"Referer: https://a/?token=aur_x",
        "agent of a shell": b"User-Agent: () { :; }; /bin/reboot",
        "agent of JNDI": b"User-Agent: ${jndi:ldap://127.0.0.1/a}",
        "agent of 7 KB": b"User-Agent: " + b"x" * 7000,
        "traceparent of nonsense": b"traceparent: 99-zz-zz-zz",
        "hop that removes a header": b"TE: trailers, deflate;q=0.5",
        "many values of one header": b"X-A: 1\r\n" * 60 + b"X-A: 2",
        "key while nobody is asked": b"Authorization: Bearer aur_x",
        "credentials of Basic": b"Authorization: Basic \xff\xff",
        "credentials of 7 KB": b"Authorization: Bearer " + b"x" * 7000,
        "proxy's credentials": b"Proxy-Authorization: Basic Og==",
    }


def _idempotency_keys() -> dict[str, bytes]:
    return {
        "of nothing": b"",
        "of 256 characters": b"k" * 256,
        "of 7 KB": b"k" * 7000,
        "of noise": b"\xff\xfe",
        "with a tab": b"a\tb",
        "of an invisible character": "a\u200bb".encode(),
        "of a control of C1": "a\u0085b".encode(),
    }


def _types() -> dict[str, bytes]:
    return {
        "of nothing": b"",
        "of text": b"text/plain",
        "of HTML": b"text/html; charset=utf-7",
        "of a form of the web": b"application/x-www-form-urlencoded",
        "of bytes": b"application/octet-stream",
        "of an image by another name": b"images/jpeg",
        "of noise": b"\xff\xfe/\xfd",
        "of slashes": b"////",
        "of 4 KB": b"x" * 4000 + b"/y",
        "of XML": b"application/xml",
        "of pickle": b"application/python-pickle",
        "of two": b"application/zip2, image/jpeg",
        "of another form": b"multipart/mixed; boundary=b",
    }


def _event_ids() -> dict[str, bytes]:
    return {
        "of noise": b"\xff\xfe",
        "of 30 digits": b"9" * 30,
        "below zero": b"-1",
        "of NUL": b"%00",
    }
