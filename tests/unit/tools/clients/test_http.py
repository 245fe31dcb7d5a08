"""One request without a library: whole answers, and no half ones."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tools.clients.http import fetch


@contextmanager
def answering(answer: bytes, asked: Callable[[bytes], object] = lambda _: None) -> Iterator[str]:
    """A server that takes one request and answers with these bytes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                asked(connection.recv(65536))
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        thread.join()


def test_an_answer_is_read_whole() -> None:
    requests: list[bytes] = []
    body = b"[1]" * 50_000
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
    with answering(head + body, requests.append) as address:
        assert fetch(address, "/v2", post=b"{}") == (200, body)
    assert requests[0].startswith(b"POST /v2 HTTP/1.0\r\n")
    assert requests[0].endswith(b"Content-Length: 2\r\n\r\n{}")


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"]
)
def test_half_an_answer_is_an_error(answer: bytes) -> None:
    with answering(answer) as address, pytest.raises(OSError, match=r"no HTTP|cut off"):
        fetch(address, "/")


def test_nobody_there_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(OSError, match="refused"):
        fetch(f"127.0.0.1:{port}", "/")
