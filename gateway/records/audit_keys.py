"""Keys of the audit log: secrets of the installation under which its chain is hashed.

Nobody who can write to the database only can forge or repair a chain. The file has a line
`<id> <64 hexadecimal digits>` for each key; new lines of the log use the last one, and the others
are kept to verify older lines.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from gateway.secret_files import read_keys
from gateway.settings import Settings

VARIABLE: Final = "AURUM_AUDIT_KEY_FILE"


@dataclass(frozen=True, slots=True)
class AuditKeys:
    """All keys by id, and the id of the one that new lines use."""

    by_id: Mapping[str, bytes] = field(repr=False)
    active_id: str

    @property
    def current(self) -> tuple[str, bytes]:
        """Id and key for new lines."""
        return self.active_id, self.by_id[self.active_id]

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read the file, or make it with one key; raises ConfigurationError."""
        by_id = read_keys(file, VARIABLE)
        return cls(by_id, list(by_id)[-1])


def audit_key_file(settings: Settings) -> Path:
    """Return the file of the keys."""
    return settings.audit_key_file or settings.home / "keys" / "audit.key"


def load_audit_keys(settings: Settings) -> AuditKeys:
    """Read the keys of this installation, which are made where there are none."""
    return AuditKeys.load(audit_key_file(settings))
