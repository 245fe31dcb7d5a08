"""Faces to bytes and back: msgpack with a checked shape, sealed against mix-ups.

Measured on faces of 336-pixel photos (2 cores, AMD EPYC): one face takes 210 bytes, with an
embedding of 512 2.3 kB, with its crop 40 kB; packing and unpacking take 1 to 3 microseconds, and
JSON is 2 to 5 times larger. zstd, lz4 and zlib save 0 to 12 % of what holds embeddings or
crops (both are noise to them) for 5 to 100 times the time, so nothing is compressed.
"""

import hashlib
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np

from gateway.types import Face, Need, Quality
from triton_python_backend import contract

_SEAL_BYTES: Final = 16
_CROP_SHAPE: Final = (contract.CROP_SIZE, contract.CROP_SIZE, 3)
Point = tuple[float, float]


class MalformedError(Exception):
    """Bytes that no `encode` made for this place."""


class _Face(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """A face as it is kept. embedding: float32, little-endian; crop: [112,112,3] uint8."""

    box: tuple[float, float, float, float]
    landmarks: tuple[Point, ...]
    confidence: float
    quality: tuple[float, float, float, float, float, float]
    score: float | None
    embedding: bytes | None
    crop: bytes | None


class _Answer(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """An analysis as it is kept, without the weights, which its place names."""

    faces: tuple[_Face, ...]
    beyond: tuple[float, ...]
    rotation: int


_DECODER: Final = msgspec.msgpack.Decoder(_Answer)


@dataclass(frozen=True, slots=True)
class Kept:
    """What was kept of an `Analysis`; fields as there."""

    faces: tuple[Face, ...]
    beyond: tuple[float, ...]
    rotation: int


def encode(
    faces: tuple[Face, ...],
    *,
    image: str,
    field: str,
    beyond: tuple[float, ...] = (),
    rotation: int = 0,
) -> bytes:
    """Pack an answer for one place of the cache."""
    answer = _Answer(tuple(_pack(face) for face in faces), beyond, rotation)
    payload = msgspec.msgpack.encode(answer)
    return _seal(payload, image, field) + payload


def is_sound(value: bytes, *, image: str, field: str) -> bool:
    """Whether the value is whole and was made for this place."""
    payload = value[_SEAL_BYTES:]
    return value[:_SEAL_BYTES] == _seal(payload, image, field)


def decode(value: bytes, *, need: Need) -> Kept:
    """Unpack an answer with what is needed of its faces; raises MalformedError."""
    try:
        answer = _DECODER.decode(value[_SEAL_BYTES:])
        faces = tuple(_unpack(face, need) for face in answer.faces)
        return Kept(faces, answer.beyond, answer.rotation)
    except (msgspec.MsgspecError, ValueError) as error:
        raise MalformedError(str(error)) from error


def _seal(payload: bytes, image: str, field: str) -> bytes:
    """Bind a payload to its place; against accidents, not against whoever can write to Redis."""
    digest = hashlib.blake2b(f"{image}|{field}|".encode(), digest_size=_SEAL_BYTES)
    digest.update(payload)
    return digest.digest()


def _pack(face: Face) -> _Face:
    quality = face.quality
    return _Face(
        box=face.box,
        landmarks=face.landmarks,
        confidence=face.confidence,
        quality=(
            quality.size,
            quality.sharpness,
            quality.brightness,
            quality.yaw,
            quality.pitch,
            quality.roll,
        ),
        score=face.score,
        embedding=None if face.embedding is None else face.embedding.astype("<f4").tobytes(),
        crop=None if face.crop is None else face.crop.tobytes(),
    )


def _unpack(kept: _Face, need: Need) -> Face:
    wants = {Need.SCORE: kept.score, Need.EMBEDDING: kept.embedding, Need.CROPS: kept.crop}
    missing = [part for part, value in wants.items() if part in need and value is None]
    if missing:
        message = f"no {missing[0]}"
        raise ValueError(message)
    embedding = crop = None
    if Need.EMBEDDING in need and kept.embedding is not None:
        embedding = np.frombuffer(kept.embedding, dtype="<f4")
    if Need.CROPS in need and kept.crop is not None:
        crop = np.frombuffer(kept.crop, dtype=np.uint8).reshape(_CROP_SHAPE)
    return Face(
        box=kept.box,
        landmarks=kept.landmarks,
        confidence=kept.confidence,
        quality=Quality(*kept.quality),
        score=kept.score if Need.SCORE in need else None,
        embedding=embedding,
        crop=crop,
    )
