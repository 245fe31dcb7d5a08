"""HTTP that is ambiguous or broken: what lets one request hide in another behind a proxy."""

from collections.abc import Iterator

from tests.e2e.hostile.case import BAD_IMAGE, FINE, INVALID, NOT_FOUND, Case, Expected
from tests.e2e.hostile.wire import DETECT, EMBED, GOOD, SCORE

_HOST = b"Host: 127.0.0.1\r\nConnection: close\r\n"
_TYPE = b"Content-Type: image/jpeg\r\n"
_HIDDEN = b"GET /api/admin/keys HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
_CHUNKED = b"Transfer-Encoding: chunked\r\n"


def cases() -> Iterator[Case]:
    """Yield all requests."""
    for name, sent in _heads().items():
        yield Case("framing", name, {"detect": sent}, INVALID)
    for name, body in _chunks().items():
        start = b"POST " + DETECT.encode() + b" HTTP/1.1\r\n" + _HOST + _TYPE + _CHUNKED + b"\r\n"
        yield Case("framing", name, {"detect": start + body}, INVALID)
    for name, (sent, expected) in _targets().items():
        yield Case("framing", name, {"target": sent}, expected)


def _post(*lines: bytes, body: bytes = b"") -> bytes:
    return (
        b"POST "
        + DETECT.encode()
        + b" HTTP/1.1\r\n"
        + _HOST
        + _TYPE
        + b"".join(lines)
        + b"\r\n"
        + body
    )


def _heads() -> dict[str, bytes]:
    length = b"Content-Length: 5\r\n"
    return {
        "length and chunks": _post(length, _CHUNKED, body=b"0\r\n\r\n" + _HIDDEN),
        "chunks and length": _post(_CHUNKED, b"Content-Length: 6\r\n", body=b"0\r\n\r\nG"),
        "two lengths": _post(length, b"Content-Length: 6\r\n", body=b"hello!"),
        "the same length twice": _post(length, length, body=b"hello"),
        "a list of lengths": _post(b"Content-Length: 5, 5\r\n", body=b"hello"),
        "a length with a sign": _post(b"Content-Length: +5\r\n", body=b"hello"),
        "a length below zero": _post(b"Content-Length: -5\r\n", body=b"hello"),
        "a length in hexadecimal": _post(b"Content-Length: 0x5\r\n", body=b"hello"),
        "a length with a blank in it": _post(b"Content-Length: 1 0\r\n", body=b"hello"),
        "a length with an underscore": _post(b"Content-Length: 1_0\r\n", body=b"hello"),
        "a length of other digits": _post("Content-Length: \u0665\r\n".encode(), body=b"hello"),
        "a length of nothing": _post(b"Content-Length: \r\n", body=b"hello"),
        "a length of 5,000 digits": _post(b"Content-Length: " + b"9" * 5000 + b"\r\n"),
        "a length with a blank before its colon": _post(b"Content-Length : 5\r\n", body=b"hello"),
        "chunks with a blank before the colon": _post(
            b"Transfer-Encoding : chunked\r\n", body=b"0\r\n\r\n"
        ),
        "chunks by another name": _post(b"Transfer-Encoding: xchunked\r\n", body=b"0\r\n\r\n"),
        "chunks that are not last": _post(
            b"Transfer-Encoding: chunked, gzip\r\n", body=b"0\r\n\r\n"
        ),
        "chunks twice": _post(_CHUNKED, _CHUNKED, body=b"0\r\n\r\n"),
        "chunks within chunks": _post(
            b"Transfer-Encoding: chunked, chunked\r\n", body=b"0\r\n\r\n"
        ),
        "chunks with a vertical tab": _post(
            b"Transfer-Encoding:\x0bchunked\r\n", body=b"0\r\n\r\n"
        ),
        "a folded header": _post(b"Content-Length: 5\r\n x: y\r\n", body=b"hello"),
        "a folded length": _post(b"Content-Length:\r\n 5\r\n", body=b"hello"),
        "a header without a colon": _post(b"nonsense\r\n"),
        "a header without a name": _post(b": x\r\n"),
        "a header with a blank in its name": _post(b"X Y: 1\r\n"),
        "a header with NUL": _post(b"X: a\0b\r\n"),
        "a header with a carriage return": _post(b"X: a\rb: c\r\n"),
        "a head of line feeds only": b"POST /api/ml/detect HTTP/1.1\nHost: localhost\nX:\0y\n\n",
        "a header of 10 KB": _post(b"X: " + b"y" * 10_000 + b"\r\n"),
        "a name of 10 KB": _post(b"X" * 10_000 + b": y\r\n"),
        "10,000 headers": _post(b"X: y\r\n" * 10_000),
        "a target of 10 KB": b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\n" + _HOST + b"\r\n",
        "a method of 10 KB": b"A" * 10_000 + b" / HTTP/1.1\r\n" + _HOST + b"\r\n",
        "a method that is none": b"<script> / HTTP/1.1\r\n" + _HOST + b"\r\n",
        "a version of HTTP that is none": b"GET / HTTP/9.9\r\n" + _HOST + b"\r\n",
        "a version of HTTP in words": b"GET / HTTP/one\r\n" + _HOST + b"\r\n",
        "HTTP/2 that was not agreed on": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(50),
        "a start of TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
        + bytes(300)
        + b"\r\n\r\n",
        "a start of SSH": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "Redis": b"*1\r\n$4\r\nINFO\r\n\r\n",
        "noise": bytes(range(128, 256)) * 8 + b"\r\n\r\n",
        "line breaks and then noise": b"\r\n\r\n\r\n\xff\xff\r\n\r\n",
        "a target with a blank": b"GET /a b HTTP/1.1\r\n" + _HOST + b"\r\n",
        "a target with NUL": b"GET /a\0b HTTP/1.1\r\n" + _HOST + b"\r\n",
        "a target with a control": b"GET /a\x01b HTTP/1.1\r\n" + _HOST + b"\r\n",
    }


def _chunks() -> dict[str, bytes]:
    """Leading zeros and extensions of any length are allowed; a body of nothing else times out."""
    return {
        "a chunk of no size": b"\r\nhello\r\n0\r\n\r\n",
        "a chunk of size -1": b"-1\r\nhello\r\n0\r\n\r\n",
        "a chunk of size 0x5": b"0x5\r\nhello\r\n0\r\n\r\n",
        "a chunk of size g": b"g\r\nhello\r\n0\r\n\r\n",
        "a chunk of 20 digits": b"f" * 20 + b"\r\nhello\r\n0\r\n\r\n",
        "a chunk with an underscore in its size": b"1_0\r\n" + b"x" * 16 + b"\r\n0\r\n\r\n",
        "a chunk that is longer than it says": b"2\r\nhello\r\n0\r\n\r\n",
        "a chunk with a line feed": b"5\nhello\n0\n\n",
        "a trailer of a length": b"0\r\nContent-Length 5\r\n\r\n",
        "100,000 chunks of one byte": b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n",
    }


def _targets() -> dict[str, tuple[bytes, Expected]]:
    def get(target: bytes) -> bytes:
        return b"GET " + target + b" HTTP/1.1\r\n" + _HOST + b"\r\n"

    embed = EMBED.encode()
    no_method: Expected = (405, "method_not_allowed")
    return {
        "target of another host": (get(b"http://169.254.169.254/latest/meta-data"), NOT_FOUND),
        "target of this host, as a whole": (get(b"http://127.0.0.1/api/health/live"), FINE),
        "target without a host": (get(b"//api/admin/keys"), NOT_FOUND),
        "target of a proxy": (b"CONNECT 10.0.0.1:22 HTTP/1.1\r\n" + _HOST + b"\r\n", NOT_FOUND),
        "target with NUL, escaped": (get(b"/api/docs/%00"), NOT_FOUND),
        "target with a broken escape": (get(b"/api/docs/%zz"), NOT_FOUND),
        "target with half an escape": (get(b"/api/docs/%"), NOT_FOUND),
        "target that climbs out": (get(b"/api/docs/..%2f..%2fsettings.py"), NOT_FOUND),
        "target that climbs out twice escaped": (
            get(b"/api/docs/%252e%252e%252fsettings.py"),
            NOT_FOUND,
        ),
        "target that climbs out in UTF-8 of five bytes": (
            get(b"/api/docs/%c0%ae%c0%ae/"),
            NOT_FOUND,
        ),
        "target that climbs out on Windows": (get(b"/api/docs/..%5c..%5csettings.py"), NOT_FOUND),
        "target that climbs into another route": (get(b"/api/docs/../admin/keys"), NOT_FOUND),
        "target with a semicolon": (get(b"/api/admin/keys;a=b"), NOT_FOUND),
        "target in capitals": (get(b"/API/ADMIN/KEYS"), NOT_FOUND),
        "target with a blank at its end": (get(b"/api/admin/keys%20"), NOT_FOUND),
        "target with a slash at its end": (get(b"/api/admin/keys/"), NOT_FOUND),
        "target with a fragment": (get(b"/api/admin/keys#x"), FINE),
        "method of a trace": (b"TRACE / HTTP/1.1\r\n" + _HOST + b"\r\n", no_method),
        "method of WebDAV": (b"PROPFIND " + embed + b" HTTP/1.1\r\n" + _HOST + b"\r\n", no_method),
        "method in small letters": (b"post " + embed + b" HTTP/1.1\r\n" + _HOST + b"\r\n", INVALID),
        "another method by header": (
            b"GET " + embed + b" HTTP/1.1\r\nX-HTTP-Method-Override: POST\r\n" + _HOST + b"\r\n",
            no_method,
        ),
        "change to WebSocket": (
            b"GET /api/health/live HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade, close\r\n"
            b"Upgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n",
            FINE,
        ),
        "change to HTTP/2": (
            b"GET /api/health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            b"Connection: Upgrade, HTTP2-Settings, close\r\n"
            b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n",
            FINE,
        ),
        "no host": (b"GET /api/health/live HTTP/1.1\r\nConnection: close\r\n\r\n", INVALID),
        "two hosts": (b"GET /api/health/live HTTP/1.1\r\nHost: b\r\n" + _HOST + b"\r\n", INVALID),
        "HTTP/1.0 with chunks": (
            b"POST " + SCORE.encode() + b" HTTP/1.0\r\n" + _TYPE + _CHUNKED + b"\r\n0\r\n\r\n",
            BAD_IMAGE,
        ),
        "an expectation that is none": (
            b"POST "
            + DETECT.encode()
            + b" HTTP/1.1\r\nExpect: 999-magic\r\n"
            + _TYPE
            + _HOST
            + b"Content-Length: %d\r\n\r\n" % len(GOOD)
            + GOOD,
            FINE,
        ),
    }
