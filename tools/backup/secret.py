"""The passphrase or key that encrypts backups, and the key of one archive made of it."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from gateway.settings import Settings
from tools.backup.errors import BackupError

_KEY: Final = re.compile(r"[0-9a-f]{64}")
_PASSPHRASE_CHARACTERS: Final = 12
_SALT_BYTES: Final = 32
_KEY_BYTES: Final = 32
_COST: Final = {"n": 1 << 17, "r": 8, "p": 1}
"""Of scrypt: 128 MiB and a third of a second for each guess."""
_MOST_MEMORY: Final = 1 << 30
_CONTEXT: Final = b"aurum backup"
_CHECK: Final = b"aurum backup check"
_VARIABLES: Final = "AURUM_BACKUP_PASSPHRASE, AURUM_BACKUP_PASSPHRASE_FILE or AURUM_BACKUP_KEY_FILE"


@dataclass(frozen=True, slots=True)
class BackupSecret:
    """A passphrase, or a key of 32 bytes."""

    kind: Literal["passphrase", "key"]
    value: bytes = field(repr=False)

    def parameters(self) -> dict[str, Any]:
        """Choose what a new archive says in clear about its key: a salt and the cost of guesses."""
        salt = {"kind": self.kind, "salt": secrets.token_hex(_SALT_BYTES)}
        chosen: dict[str, Any] = salt | (_COST if self.kind == "passphrase" else {})
        return chosen | {"check": _check(self._derive(chosen))}

    def key(self, parameters: Mapping[str, Any]) -> bytes:
        """Return the key of an archive by its parameters; raises BackupError for a wrong secret."""
        kind = parameters.get("kind")
        if kind not in ("passphrase", "key"):
            raise BackupError("the head of the archive is damaged")
        if kind != self.kind:
            raise BackupError(f"the archive was encrypted with a {kind}, not with a {self.kind}")
        derived = self._derive(parameters)
        if not hmac.compare_digest(_check(derived), str(parameters.get("check"))):
            message = f"the {self.kind} is not that of the archive, or its head is damaged"
            raise BackupError(message)
        return derived

    def _derive(self, parameters: Mapping[str, Any]) -> bytes:
        try:
            salt = bytes.fromhex(parameters["salt"])
            if self.kind == "key":
                hkdf = HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=salt, info=_CONTEXT)
                return hkdf.derive(self.value)
            n, r, p = (int(parameters[name]) for name in ("n", "r", "p"))
            # what a forged head may cost
            if n * r * 128 > _MOST_MEMORY or not 0 < p <= 4:
                raise BackupError("the head of the archive is damaged")
            return Scrypt(salt=salt, length=_KEY_BYTES, n=n, r=r, p=p).derive(self.value)
        except (KeyError, TypeError, ValueError) as error:
            raise BackupError("the head of the archive is damaged") from error


def load_secret(settings: Settings) -> BackupSecret:
    """Read the secret that the settings name; raises BackupError unless there is exactly one."""
    given = [
        each
        for each in (
            settings.backup_passphrase,
            settings.backup_passphrase_file,
            settings.backup_key_file,
        )
        if each is not None
    ]
    if len(given) != 1:
        problem = "nothing encrypts backups" if not given else "two things encrypt backups"
        raise BackupError(f"{problem}: set {_VARIABLES}, one of them")
    if settings.backup_key_file is not None:
        text = _read(settings.backup_key_file, "AURUM_BACKUP_KEY_FILE").strip()
        if not _KEY.fullmatch(text):
            message = (
                f"AURUM_BACKUP_KEY_FILE: {settings.backup_key_file} is not 64 hexadecimal digits "
                "(`openssl rand -hex 32` makes them)"
            )
            raise BackupError(message)
        return BackupSecret("key", bytes.fromhex(text))
    if settings.backup_passphrase_file is not None:
        text = _read(settings.backup_passphrase_file, "AURUM_BACKUP_PASSPHRASE_FILE")
        passphrase = text.partition("\n")[0].rstrip("\r")
    else:
        passphrase = given[0].get_secret_value()  # type: ignore[union-attr]
    if len(passphrase) < _PASSPHRASE_CHARACTERS:
        message = f"the passphrase of backups has fewer than {_PASSPHRASE_CHARACTERS} characters"
        raise BackupError(message)
    return BackupSecret("passphrase", passphrase.encode())


def _read(file: Path, variable: str) -> str:
    try:
        return file.read_text("utf-8")
    except OSError as error:
        raise BackupError(f"{variable}: {file}: {error.strerror}") from error
    except UnicodeDecodeError:
        # not chained: its text quotes the bytes
        raise BackupError(f"{variable}: {file} is not a text file") from None


def _check(key: bytes) -> str:
    """Tell one key from another; guessing with it costs as much as with the archive."""
    return hmac.new(key, _CHECK, hashlib.sha256).hexdigest()[:16]
