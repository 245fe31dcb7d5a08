"""Reads what was erased: registers of erasures, and receipts of `aurum subjects erase`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from gateway.jobs.objects.erasures import open_bucket_of_erasures
from gateway.records.erasure_register import (
    Mark,
    RegisterLine,
    digest_of,
    read_lines,
    register_file,
)
from gateway.settings import Settings
from tools.backup.errors import BackupError


@dataclass(frozen=True, slots=True)
class Registers:
    """All that was read.

    receipts: when a subject was erased, by the names of its collection and itself. unread: lines
    that cannot be read. sources: where lines were found; none without a register.
    """

    lines: tuple[RegisterLine, ...] = ()
    receipts: Mapping[tuple[str, str], float] = field(default_factory=dict)
    unread: int = 0
    sources: tuple[str, ...] = ()


class Book:
    """Looks up when something was erased."""

    def __init__(self, registers: Registers, keys: Mapping[str, bytes]) -> None:
        self._times: dict[tuple[str, str, str], float] = {}
        self._keys: dict[str, set[str]] = {}
        self._secrets = keys
        self.unknown = 0
        """Lines under keys that are not there."""
        for line in registers.lines:
            if line.key_id not in keys:
                self.unknown += 1
                continue
            self._keys.setdefault(line.kind, set()).add(line.key_id)
            name = (line.kind, line.key_id, line.digest)
            self._times[name] = max(line.at, self._times.get(name, 0.0))

    @classmethod
    def of(cls, registers: Registers, keys: Mapping[str, bytes]) -> Self:
        """Make a book of registers; keys: of the audit log by id."""
        return cls(registers, keys)

    def has(self, *kinds: str) -> bool:
        """Whether anything of these kinds was erased, so that a search is worth it."""
        return any(kind in self._keys for kind in kinds)

    def erased_at(self, mark: Mark) -> float | None:
        """Return when it was erased last, seconds since 1970; None if it never was."""
        times = [
            self._times.get((mark.kind, key_id, digest_of(mark, self._secrets[key_id])))
            for key_id in self._keys.get(mark.kind, ())
        ]
        return max((at for at in times if at is not None), default=None)


async def read_registers(settings: Settings, files: Sequence[Path]) -> Registers:
    """Read the register that the settings name, if there is one, and files of an operator.

    Raises BackupError for a file that is neither a register nor a receipt, JobsUnavailableError.
    """
    lines: list[RegisterLine] = []
    receipts: dict[tuple[str, str], float] = {}
    unread = 0
    own = register_file(settings)
    read_files = [*files, *([own] if own.exists() and own not in files else ())]
    contents = [(_content(file), str(file), file in files) for file in read_files]
    sources = [str(file) for file in read_files]
    if settings.erasure_register_url is not None:
        url = settings.erasure_register_url
        found = await open_bucket_of_erasures(settings, url).read()
        sources.append(url)
        contents += [(content, f"{url}: {name}", False) for content, name in found]
    for content, name, is_given in contents:
        receipt = _receipt(content)
        if receipt is not None:
            for each, at in receipt.items():
                receipts[each] = max(at, receipts.get(each, 0.0))
            continue
        read, bad = read_lines(content)
        # our own may consist of the half line that a killed process left
        if is_given and content.strip() and not read:
            raise BackupError(f"{name} is neither a register of erasures nor a receipt")
        lines += read
        unread += bad
    return Registers(tuple(lines), receipts, unread, tuple(sources))


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise BackupError(f"{file}: {error.strerror}") from error


def _receipt(content: bytes) -> dict[tuple[str, str], float] | None:
    """Read what `aurum subjects erase --receipt` wrote; None if it is none."""
    try:
        document: dict[str, Any] = json.loads(content)
        at = datetime.fromisoformat(document["at"]).timestamp()
        return {(each["collection"], each["subject"]): at for each in document["erased"]}
    except (ValueError, KeyError, TypeError):
        return None
