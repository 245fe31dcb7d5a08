"""A service under measurement: how it is started, asked and stopped."""

import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, ClassVar
from uuid import uuid4


class NotRunError(Exception):
    """The service cannot be measured here; the message says why and stands in the table."""


@dataclass(frozen=True, slots=True)
class Request:
    """A POST that asks for the faces of one photo with their embeddings."""

    path: str
    body: bytes
    content_type: str


@dataclass(frozen=True, slots=True)
class Networks:
    """The networks that every service loads: SCRFD and ArcFace, as ONNX files."""

    detector: Path
    embedder: Path
    dimension: int = 128


class Service(ABC):
    """One service; a new process group for each launch."""

    name: ClassVar[str]
    work: ClassVar[str]
    """What it does with a photo where services differ, for the table."""
    answers_all: ClassVar[bool] = True
    """Whether an answer has all faces; else one of those that it embedded."""

    @abstractmethod
    def launch(self, port: int, log: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start it on this machine's `port`, with all that it says going to `log`."""

    @abstractmethod
    def processes(self, launched: subprocess.Popen[bytes]) -> list[int]:
        """The ids of all its processes."""

    @abstractmethod
    def stop(self, launched: subprocess.Popen[bytes]) -> None:
        """End it; returns when no process is left."""

    @abstractmethod
    def request(self, photo: bytes) -> Request:
        """The request for one JPEG."""

    @abstractmethod
    def faces(self, answer: bytes) -> int:
        """How many faces with an embedding an answer has; raises ValueError for another answer."""

    @abstractmethod
    def origin(self) -> Mapping[str, str]:
        """Version, commit and what it was built from."""


def form(fields: Mapping[str, str], photo: bytes) -> tuple[bytes, str]:
    """A multipart body with texts and the photo as `image`, and its content type."""
    boundary = uuid4().hex
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    head = 'Content-Disposition: form-data; name="image"; filename="photo.jpg"'
    parts.append(f"--{boundary}\r\n{head}\r\nContent-Type: image/jpeg\r\n\r\n")
    body = "".join(parts).encode() + photo + f"\r\n--{boundary}--\r\n".encode()
    return body, f"multipart/form-data; boundary={boundary}"
