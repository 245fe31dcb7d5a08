"""Seals the metadata of faces and subjects in the records, and makes a blind index of it.

Sealed metadata is stored as `{"sealed": "<base64>"}`, the nonce first; the id of its key has a
column of its own. The blind index replaces each key and value by an HMAC, so that equal ones can
be found and nothing can be read; see `blind`.
"""

import base64
import hashlib
import hmac
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
from sqlalchemy import ColumnElement, Table, Text, and_, cast

from gateway.errors import ConfigurationError, StorageUnavailableError
from gateway.records.encryption import NONCE_BYTES, DataCipher
from gateway.records.types import MetadataValue, SealedBytes

_FIELD: Final = "sealed"
_KEY_DIGITS: Final = 16
_VALUE_DIGITS: Final = 32


@dataclass(frozen=True, slots=True)
class StoredMetadata:
    """Metadata as columns have it; key_id None: it is not sealed."""

    value: Mapping[str, Any]
    key_id: str | None


class MetadataSeal:
    """Seals what is written if it is on, and opens whatever is sealed."""

    def __init__(self, cipher: DataCipher | None = None, *, is_on: bool = False) -> None:
        """Use a cipher; without one, sealed metadata cannot be opened."""
        self._cipher = cipher
        self.is_on = is_on and cipher is not None

    def write(self, name: str, metadata: Mapping[str, MetadataValue]) -> StoredMetadata:
        """Make columns of metadata; nothing of an empty one needs to be hidden."""
        if self._cipher is None or not self.is_on or not metadata:
            return StoredMetadata(dict(metadata), None)
        return seal_metadata(self._cipher, name, orjson.dumps(dict(metadata)))

    def read(self, name: str, stored: StoredMetadata) -> Mapping[str, MetadataValue]:
        """Return metadata, which is opened when it is looked at.

        Whatever does not look at it works without its key, too: the deletion of a face does.
        Looking at it raises StorageUnavailableError if it cannot be opened.
        """
        if stored.key_id is None:
            return stored.value
        return _Sealed(self._cipher, name, stored)


class _Sealed(Mapping[str, MetadataValue]):
    """Metadata that is opened when it is looked at."""

    def __init__(self, cipher: DataCipher | None, name: str, stored: StoredMetadata) -> None:
        self._cipher = cipher
        self._name = name
        self._stored = stored
        self._opened: Mapping[str, MetadataValue] | None = None

    def _open(self) -> Mapping[str, MetadataValue]:
        if self._opened is None:
            if self._cipher is None:
                raise StorageUnavailableError(f"there is no storage key to open {self._name}")
            try:
                self._opened = orjson.loads(open_metadata(self._cipher, self._name, self._stored))
            except ConfigurationError as error:
                message = f"the metadata cannot be opened: {error}"
                raise StorageUnavailableError(message) from error
        return self._opened

    def __getitem__(self, key: str) -> MetadataValue:
        return self._open()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._open())

    def __len__(self) -> int:
        return len(self._open())

    def __repr__(self) -> str:
        return "<sealed metadata>"


def otherwise_sealed(table: Table, *, is_on: bool) -> ColumnElement[bool]:
    """Select rows whose metadata is not as it should be: sealed if it is on, and not empty."""
    if not is_on:
        return table.c.metadata_key_id.is_not(None)
    # both databases write an empty object so
    filled = cast(table.c.metadata, Text) != "{}"
    return and_(table.c.metadata_key_id.is_(None), filled)


def face_name(face_id: str) -> str:
    """Return the name to which the metadata of a face is bound."""
    return f"metadata/face/{face_id}"


def subject_name(collection_id: str, subject: str) -> str:
    """Return the name to which the metadata of a subject is bound."""
    return f"metadata/subject/{collection_id}/{subject}"


def seal_metadata(cipher: DataCipher, name: str, data: bytes) -> StoredMetadata:
    """Seal JSON."""
    sealed = cipher.seal(name, data)
    text = base64.b64encode(sealed.nonce + sealed.sealed).decode()
    return StoredMetadata({_FIELD: text}, sealed.key_id)


def open_metadata(cipher: DataCipher, name: str, stored: StoredMetadata) -> bytes:
    """Open JSON; raises ConfigurationError as `DataCipher.open`."""
    data = base64.b64decode(str(stored.value.get(_FIELD, "")))
    sealed = SealedBytes(stored.key_id or "", data[:NONCE_BYTES], data[NONCE_BYTES:])
    return cipher.open(name, sealed)


def blind(
    index_key: bytes, collection: str, metadata: Mapping[str, MetadataValue]
) -> dict[str, MetadataValue]:
    """Replace keys and values by HMACs, each value bound to its key, both to their collection.

    Equal metadata gives equal entries, which is all that can be seen of it: how many faces of a
    collection share a value. Numbers are one type, as in `vectors.base.FaceFilter`: 42 is 42.0.
    """

    def digest(*parts: str) -> str:
        text = orjson.dumps([collection, *parts])
        return hmac.new(index_key, text, hashlib.sha256).hexdigest()

    return {
        f"k{digest(key)[:_KEY_DIGITS]}": digest(key, *_typed(value))[:_VALUE_DIGITS]
        for key, value in metadata.items()
    }


def _typed(value: MetadataValue) -> tuple[str, str]:
    if isinstance(value, bool):
        return "boolean", str(value)
    if isinstance(value, str):
        return "text", value
    return "number", repr(float(value))
