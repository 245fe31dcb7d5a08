"""Files with secrets: made once with mode 0600, or named by an operator."""

import os
import re
import secrets
from pathlib import Path
from typing import Final

from gateway.errors import ConfigurationError

_KEY_LINE: Final = re.compile(r"([0-9a-z]{1,16}) ([0-9a-f]{64})")


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


def new_key_line() -> str:
    """Make a line of a file of keys: an id, and 64 hexadecimal digits."""
    return f"{secrets.token_hex(4)} {secrets.token_hex(32)}\n"


def read_keys(file: Path, variable: str) -> dict[str, bytes]:
    """Read a file of keys by their ids, in its order; one that is missing is made with one key.

    Raises ConfigurationError as `read_secret_file`, and for lines that `new_key_line` does not
    write.
    """
    if not file.exists():
        make_secret_file(file, new_key_line().encode())
    keys: dict[str, bytes] = {}
    for number, line in enumerate(read_secret_file(file, variable).splitlines(), 1):
        found = _KEY_LINE.fullmatch(line.strip())
        if found is None or found[1] in keys:
            message = (
                f"{variable}: line {number} of {file} is not `<id> <64 hexadecimal digits>` "
                "with an id of its own"
            )
            raise ConfigurationError(message)
        keys[found[1]] = bytes.fromhex(found[2])
    if not keys:
        raise ConfigurationError(f"{variable}: {file} is empty")
    return keys


def _write_beside(file: Path, content: bytes) -> Path:
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
    return temporary
