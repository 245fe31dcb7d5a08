"""One HTTP request to a part on this machine, without a library that the supervisor would keep."""

import socket
import ssl
from collections.abc import Mapping
from typing import Final

_TIMEOUT_SECONDS: Final = 5.0
_CHUNK_BYTES: Final = 65536
_NO_HEADERS: Final[Mapping[str, str]] = {}


def fetch(
    address: str,
    path: str,
    *,
    post: bytes | None = None,
    headers: Mapping[str, str] = _NO_HEADERS,
    timeout_seconds: float = _TIMEOUT_SECONDS,
    context: ssl.SSLContext | None = None,
) -> tuple[int, bytes]:
    """Ask and read the whole answer.

    Args:
        address: `host:port`, an IPv6 host in brackets.
        path: with a slash in front.
        post: JSON to post; None gets.
        headers: further ones.
        timeout_seconds: for each step: connecting, sending, each piece of the answer.
        context: checks the server; None speaks plain HTTP.

    Returns:
        The status and the body.

    Raises:
        OSError: if there is no whole answer in time.

    """
    host, _, port = address.rpartition(":")
    method = "GET" if post is None else "POST"
    body = post or b""
    # 1.0: the answer ends with the connection and comes in no chunks
    head = (
        f"{method} {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    )
    head += "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "\r\n"
    with socket.create_connection((host.strip("[]"), int(port)), timeout_seconds) as connection:
        if context is None:
            answer = _exchange(connection, head.encode() + body)
        else:
            with context.wrap_socket(connection, server_hostname=host.strip("[]")) as secured:
                answer = _exchange(secured, head.encode() + body)
    return _parse(answer)


def _exchange(connection: socket.socket, request: bytes) -> bytes:
    connection.sendall(request)
    pieces = []
    while piece := connection.recv(_CHUNK_BYTES):
        pieces.append(piece)
    return b"".join(pieces)


def _parse(answer: bytes) -> tuple[int, bytes]:
    head, found, body = answer.partition(b"\r\n\r\n")
    status, *fields = head.split(b"\r\n")
    words = status.split()
    if not found or len(words) < 2 or not words[1].isdigit():
        raise ConnectionError("the answer is no HTTP")
    for field in fields:
        name, _, value = field.partition(b":")
        if name.strip().lower() == b"content-length" and int(value) != len(body):
            raise ConnectionError("the answer was cut off")
    return int(words[1]), body
