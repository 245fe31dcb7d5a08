"""Requests as bytes, and an image in the form that each route takes it in."""

import base64
import json
from collections.abc import Callable, Iterable
from typing import Final

from tests.support.photos import encode, portrait
from triton_python_backend import contract

COLLECTION: Final = "hostile"
FORM: Final = "Content-Type: multipart/form-data; boundary=b"
JSON: Final = "Content-Type: application/json"
SCORE, DETECT, EMBED = "/api/ml/score", "/api/ml/detect", "/api/ml/embed"
VERIFY, BATCH = "/api/ml/verify", "/api/ml/score/batch"
COLLECTIONS, KEYS = "/api/collections", "/api/admin/keys"
ENROL, SEARCH = f"{COLLECTIONS}/{COLLECTION}/faces", f"{COLLECTIONS}/{COLLECTION}/search"
SUBJECT: Final = f"{COLLECTIONS}/{COLLECTION}/subjects/ada"
CLUSTERS: Final = f"{COLLECTIONS}/{COLLECTION}/clusters"
MIGRATE: Final = f"{COLLECTIONS}/{COLLECTION}/migrate"
INFER: Final = "/v2/models/face_pipeline/infer"
GOOD: Final = encode(portrait().resize((160, 160)), "JPEG")


def head(method: str, path: str | bytes, *lines: str | bytes) -> bytes:
    """Write the head of a request, which asks to close the connection."""
    path = path.encode() if isinstance(path, str) else path
    written = [each.encode() if isinstance(each, str) else each for each in lines]
    start = method.encode() + b" " + path + b" HTTP/1.1"
    return b"\r\n".join([start, b"Host: 127.0.0.1", *written, b"Connection: close", b"", b""])


def send(method: str, path: str | bytes, body: bytes, *lines: str | bytes) -> bytes:
    """Write a request with a body."""
    return head(method, path, *lines, f"Content-Length: {len(body)}") + body


def post(path: str | bytes, body: bytes, *lines: str | bytes) -> bytes:
    """Write a POST."""
    return send("POST", path, body, *lines)


def part(disposition: str | bytes, data: bytes, *lines: str | bytes) -> bytes:
    """Write a form field, for the boundary `b`."""
    written = [each.encode() if isinstance(each, str) else each for each in (disposition, *lines)]
    return (
        b"--b\r\nContent-Disposition: form-data; "
        + b"\r\n".join(written)
        + b"\r\n\r\n"
        + data
        + b"\r\n"
    )


def form(path: str, *parts: bytes, end: bytes = b"--b--\r\n") -> bytes:
    """Write a POST of a form."""
    return post(path, b"".join(parts) + end, FORM)


def document(path: str, value: object, method: str = "POST") -> bytes:
    """Write a request with JSON; bytes are sent as they are."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return send(method, path, body, JSON)


def infer(described: object, tensors: bytes = b"", path: str = INFER) -> bytes:
    """Write a request of KServe; its tensors are binary if there are bytes of them."""
    text = described if isinstance(described, bytes) else json.dumps(described).encode()
    lines = [f"Inference-Header-Content-Length: {len(text)}"] if tensors else []
    return post(path, text + tensors, *lines)


def image_tensor(image: bytes) -> bytes:
    """Write an inference request for an image, in binary."""
    tensor = len(image).to_bytes(4, "little") + image
    described = {
        "name": contract.IMAGE,
        "shape": [1],
        "datatype": "BYTES",
        "parameters": {"binary_data_size": len(tensor)},
    }
    return infer({"inputs": [described]}, tensor)


def base64_text(data: bytes) -> str:
    """Encode for JSON."""
    return base64.b64encode(data).decode()


IMAGE_ROUTES: Final[dict[str, Callable[[bytes], bytes]]] = {
    "score": lambda data: form(SCORE, part('name="image"; filename="a.jpg"', data)),
    "detect": lambda data: post(DETECT, data, "Content-Type: image/jpeg"),
    "embed": lambda data: document(EMBED, {"image": base64_text(data)}),
    "verify": lambda data: form(VERIFY, part('name="image_a"', GOOD), part('name="image_b"', data)),
    "enrol": lambda data: form(ENROL, part('name="images"', data), part('name="subject"', b"x")),
    "search": lambda data: post(SEARCH, data, "Content-Type: image/png"),
    "infer": image_tensor,
}
"""By the name of the route, how it takes an image: as a form, as it is, in JSON, as a tensor."""


def to_all(image: bytes, routes: Iterable[str] = tuple(IMAGE_ROUTES)) -> dict[str, bytes]:
    """Write an image for each of the routes."""
    return {route: IMAGE_ROUTES[route](image) for route in routes}
