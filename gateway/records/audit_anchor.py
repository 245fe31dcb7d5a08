"""Anchors: heads of the audit chain that are kept outside of the database.

The chain shows that nothing in it was changed, but not that nothing was cut off its end, nor that
somebody who has the key did not write all of it anew. A copy of its head from before shows both.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.errors import ConfigurationError
from gateway.records.audit import Head
from gateway.settings import Settings

VARIABLE: Final = "AURUM_AUDIT_ANCHOR_FILE"


@dataclass(frozen=True, slots=True)
class Anchor:
    """A head of the chain, and where it was found."""

    line: int
    hash: str
    at: float
    where: str


def anchor_file(settings: Settings) -> Path:
    """Return the file of anchors."""
    return settings.audit_anchor_file or settings.home / "audit.anchor"


def write_anchor(head: Head) -> bytes:
    """Write a head as a line of JSON."""
    content = {"line": head.line, "hash": head.hash, "at": head.at}
    return json.dumps(content, separators=(",", ":")).encode() + b"\n"


def append_anchor(file: Path, head: Head) -> None:
    """Append a head to a file; several processes may do so at once."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "ab") as handle:
        handle.write(write_anchor(head))
        handle.flush()
        os.fsync(handle.fileno())


def read_anchor_file(file: Path) -> tuple[Anchor, ...]:
    """Read a file of anchors; none without a file. Raises ConfigurationError."""
    try:
        lines = file.read_bytes().splitlines()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise ConfigurationError(f"{VARIABLE}: {file}: {error.strerror}") from error
    return tuple(read_anchors((line, f"{file.name}:{n}") for n, line in enumerate(lines, 1)))


def read_anchors(lines: Iterable[tuple[bytes, str]]) -> Iterable[Anchor]:
    """Read anchors and where they were found; raises ConfigurationError."""
    for line, where in lines:
        try:
            found = json.loads(line)
            yield Anchor(int(found["line"]), str(found["hash"]), float(found["at"]), where)
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(f"{where} is no anchor of the audit log") from error
