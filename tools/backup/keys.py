"""The secrets without which stored data cannot be used: storage keys, pepper, audit keys."""

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from gateway.errors import ConfigurationError
from gateway.records.audit_keys import AuditKeys, audit_key_file
from gateway.records.encryption import storage_key_file
from gateway.records.key_ring import KeyRing
from gateway.secret_files import make_secret_file
from gateway.security.factory import pepper_file
from gateway.security.peppers import Peppers
from gateway.settings import Settings
from tools.backup.errors import BackupError

STORAGE: Final = "storage"
PEPPER: Final = "pepper"
AUDIT: Final = "audit"
_ASIDE: Final = ".before-restore-"
_COLUMNS: Final = {
    ("crops", "key_id"): STORAGE,
    ("refused_faces", "key_id"): STORAGE,
    ("refused_crops", "key_id"): STORAGE,
    ("job_results", "key_id"): STORAGE,
    ("faces", "metadata_key_id"): STORAGE,
    ("subjects", "metadata_key_id"): STORAGE,
    ("api_keys", "pepper_id"): PEPPER,
    ("audit", "key_id"): AUDIT,
}
"""Where rows name the key that they need."""
KeyFiles = Mapping[str, bytes]
"""Contents by kind."""


@dataclass(slots=True)
class UsedKeys:
    """Ids of keys that rows name, by kind."""

    ids: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def add(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Note the ids in some rows."""
        for (of_table, column), kind in _COLUMNS.items():
            if of_table == table and column in columns:
                position = list(columns).index(column)
                self.ids[kind] |= {row[position] for row in rows if row[position]}

    def missing(self, files: KeyFiles) -> dict[str, list[str]]:
        """Return the ids that are not in the files, by kind; empty if all are."""
        known = {kind: key_ids(kind, content) for kind, content in files.items()}
        found = {kind: sorted(ids - known.get(kind, set())) for kind, ids in self.ids.items()}
        return {kind: ids for kind, ids in found.items() if ids}


def key_ids(kind: str, content: bytes) -> set[str]:
    """Return the ids of the keys in a file; raises BackupError, which never quotes it."""
    try:
        if kind == STORAGE:
            return set(KeyRing.parse(content, "the storage keys").by_id)
        lines = content.decode("ascii").splitlines()
        return {line.split()[0] for line in lines if line.strip()}
    except (ConfigurationError, UnicodeDecodeError, IndexError):
        raise BackupError(f"the file of the {kind} keys cannot be read") from None


def read_key_files(settings: Settings) -> KeyFiles:
    """Read the keys that exist; raises BackupError."""
    found: dict[str, bytes] = {}
    for kind, file in _files(settings).items():
        try:
            found[kind] = file.read_bytes()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise BackupError(f"{file}: {error.strerror}") from error
    if settings.storage_keys is not None:
        entries = settings.storage_keys.get_secret_value().replace(",", "\n")
        found[STORAGE] = f"{entries}\n".encode()
    return found


def best_of(before: KeyFiles, after: KeyFiles, used: UsedKeys) -> KeyFiles:
    """Choose the keys that open the rows: a rotation may have run while they were read."""
    return before if used.missing(after) and not used.missing(before) else after


def write_key_files(settings: Settings, files: KeyFiles) -> list[str]:
    """Write the keys of an archive where the settings expect them; returns what to know about it.

    A file that has further keys stays as it is, as they are newer: what was written since needs
    them, and one that replaced a leaked key must not be replaced by it. A file with other keys is
    renamed, never lost. Raises BackupError.
    """
    notes: list[str] = []
    places = _files(settings)
    for kind, content in files.items():
        if kind == STORAGE and settings.storage_keys is not None:
            given = settings.storage_keys.get_secret_value().encode()
            lacking = key_ids(kind, content) - key_ids(kind, given)
            if lacking:
                notes.append(f"AURUM_STORAGE_KEYS lacks {', '.join(sorted(lacking))}")
            continue
        file = places[kind]
        if file.exists():
            held = file.read_bytes()
            if held == content:
                continue
            if _lines(content) <= _lines(held):
                notes.append(f"{file} has newer keys, too, and stays as it is")
                continue
            aside = file.with_name(f"{file.name}{_ASIDE}{time.time_ns()}")
            file.rename(aside)
            notes.append(f"{file} was renamed to {aside.name}")
        make_secret_file(file, content)
    _check(settings)
    return notes


def audit_keys_ever(settings: Settings) -> Mapping[str, bytes]:
    """Return the audit keys of the home, also of files that a restore has renamed, by id."""
    file = audit_key_file(settings)
    found: dict[str, bytes] = {}
    for each in (*sorted(file.parent.glob(f"{file.name}{_ASIDE}*")), file):
        if each.exists():
            found |= AuditKeys.load(each).by_id
    return found


def _lines(content: bytes) -> set[bytes]:
    return {line.strip() for line in content.splitlines() if line.strip()}


def _check(settings: Settings) -> None:
    """Load what was written as the gateway will."""
    places = _files(settings)
    try:
        if settings.storage_keys is None and places[STORAGE].exists():
            KeyRing.load(places[STORAGE])
        if places[PEPPER].exists():
            Peppers.load(places[PEPPER])
        if places[AUDIT].exists():
            AuditKeys.load(places[AUDIT])
    except ConfigurationError as error:
        raise BackupError(str(error)) from error


def _files(settings: Settings) -> dict[str, Path]:
    return {
        STORAGE: storage_key_file(settings),
        PEPPER: pepper_file(settings),
        AUDIT: audit_key_file(settings),
    }
