"""Files with secrets: made once with mode 0600, or named by an operator."""

import os
import secrets
from pathlib import Path

from gateway.errors import ConfigurationError


def make_secret_file(file: Path, content: bytes) -> None:
    """Write a new file that only its owner can read; of two processes at once, one wins."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = _write_beside(file, content)
    try:
        # link fails if the name exists
        os.link(temporary, file)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()


def replace_secret_file(file: Path, content: bytes) -> None:
    """Replace the content of a file at once; readers see the old or the new one."""
    _write_beside(file, content).replace(file)


def read_secret_file(file: Path, variable: str) -> str:
    """Read a file; raises ConfigurationError, which names the variable, never the content."""
    try:
        return file.read_text("ascii")
    except OSError as error:
        raise ConfigurationError(f"{variable}: {file}: {error.strerror}") from error
    except UnicodeDecodeError:
        # not chained: its text quotes the bytes
        raise ConfigurationError(f"{variable}: {file} is not a text file") from None


def _write_beside(file: Path, content: bytes) -> Path:
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
    return temporary
