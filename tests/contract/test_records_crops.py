"""Crops in the records: sealed, counted, removed with their faces."""

from pathlib import Path

import pytest

from gateway.errors import ConfigurationError
from gateway.records.encryption import FileKeyCipher
from gateway.records.store import RecordStore
from gateway.records.types import SealedCrop
from tests.support.face_records import a_collection, a_face


def a_crop(cipher: FileKeyCipher, face_id: str, crop: bytes) -> SealedCrop:
    return SealedCrop.of(face_id, cipher.seal(face_id, crop))


async def test_removal_counts_the_crops(records: RecordStore, tmp_path: Path) -> None:
    cipher = FileKeyCipher.load(tmp_path / "crops.key")
    collection = a_collection()
    await records.collections.add(collection)
    faces = [a_face(collection, i) for i in range(1200)]
    crops = [a_crop(cipher, face.id, b"crop of " + face.id.encode()) for face in faces[:700]]
    await records.faces.begin(faces, crops)
    await records.faces.commit([face.id for face in faces])
    (crop,) = await records.faces.crops([faces[0].id, faces[-1].id])
    assert cipher.open(crop.face_id, crop.bytes_only) == b"crop of " + faces[0].id.encode()
    assert await records.faces.count_crops(collection.id) == 700
    assert await records.faces.remove([face.id for face in faces]) == 700
    assert await records.faces.count(collection.id) == (0, 0)
    assert await records.faces.count_crops(collection.id) == 0


def test_a_crop_opens_only_with_its_key_and_for_its_face(tmp_path: Path) -> None:
    cipher = FileKeyCipher.load(tmp_path / "keys" / "crops.key")
    again = FileKeyCipher.load(tmp_path / "keys" / "crops.key")
    sealed = cipher.seal("face-1", b"pixels")
    assert again.open("face-1", sealed) == b"pixels"
    assert b"pixels" not in sealed.sealed
    with pytest.raises(ConfigurationError, match="changed"):
        again.open("face-2", sealed)
    other = FileKeyCipher.load(tmp_path / "other.key")
    with pytest.raises(ConfigurationError, match="sealed with key"):
        other.open("face-1", sealed)
    assert (tmp_path / "keys" / "crops.key").stat().st_mode & 0o777 == 0o600
