"""One file over HTTP: resumed, tried again, bounded, measured."""

import asyncio
import errno
import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential_jitter,
)

from tools.errors import PackError

Progress = Callable[[int, int | None], None]
"""Told bytes on the disk and bytes in all (None: not known)."""

_CHUNK: Final = 256 * 1024
_SPARE_BYTES: Final = 64 * 1024 * 1024
"""What shall be left on the disk."""
_VALIDATOR_SUFFIX: Final = ".validator"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a server is put up with."""

    attempts: int = 5
    first_wait_seconds: float = 1.0
    longest_wait_seconds: float = 20.0
    stalled_seconds: float = 30.0
    """Without a byte for so long, the connection counts as broken."""


PATIENCE: Final = Patience()


class _TransientError(Exception):
    """Worth another try."""


class NotThereError(PackError):
    """The source does not have the file."""


async def download(
    url: str,
    target: Path,
    *,
    sha256: str | None,
    size: int | None,
    progress: Progress,
    patience: Patience,
) -> None:
    """Fetch a file; what an earlier, broken attempt left in `<target>.part` is continued.

    Args:
        url: where it is.
        target: where it goes, whole and checked, by one rename.
        sha256: expected; None: not known, the caller checks what is inside.
        size: expected bytes; None: not known.
        progress: told how far it is.
        patience: for broken connections, 5xx, 408 and 429.

    Raises:
        NotThereError: 404 or another refusal.
        PackError: it is not what it should be, the disk is full, or the server stayed broken.
    """
    part = target.with_name(target.name + ".part")
    retrying = AsyncRetrying(
        retry=retry_if_exception_type(_TransientError),
        stop=stop_after_attempt(patience.attempts),
        wait=wait_exponential_jitter(
            multiplier=patience.first_wait_seconds, max=patience.longest_wait_seconds, jitter=0.2
        ),
        reraise=True,
    )
    timeout = aiohttp.ClientTimeout(
        total=None, connect=patience.stalled_seconds, sock_read=patience.stalled_seconds
    )
    try:
        async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session:
            await retrying(_attempt, session, url, part, size, progress)
    except _TransientError as error:
        message = f"{url}: {error} ({patience.attempts} attempts; what came is kept)"
        raise PackError(message) from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            _forget(part)
            raise PackError(f"the disk of {target.parent} is full") from error
        raise
    await asyncio.to_thread(_accept, part, target, url, sha256, size)


async def _attempt(
    session: aiohttp.ClientSession, url: str, part: Path, size: int | None, progress: Progress
) -> None:
    have = _size(part)
    headers = {"Accept-Encoding": "identity"}
    validator = _validator(part)
    if have and validator:
        headers |= {"Range": f"bytes={have}-", "If-Range": validator}
    try:
        async with session.get(url, headers=headers) as response:
            status = response.status
            if status in (408, 429) or status >= 500:
                raise _TransientError(f"answers {status}")
            if status == 416:
                _forget(part)
                raise _TransientError("does not have the rest of the file")
            if status not in (200, 206):
                raise NotThereError(f"{url} answers {status}")
            await _receive(response, part, have if status == 206 else 0, size, progress)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise _TransientError(str(error) or type(error).__name__) from error


async def _receive(
    response: aiohttp.ClientResponse,
    part: Path,
    have: int,
    size: int | None,
    progress: Progress,
) -> None:
    length = response.content_length
    total = size if length is None else have + length
    _require_room(part.parent, (total or 0) - have)
    # remembered before the first byte, so that a killed run can go on
    tag = response.headers.get("ETag", "")
    strong = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")
    part.with_name(part.name + _VALIDATOR_SUFFIX).write_text(strong)
    with part.open("ab" if have else "wb") as file:
        async for chunk in response.content.iter_chunked(_CHUNK):
            file.write(chunk)
            have += len(chunk)
            if size is not None and have > size:
                break
            progress(have, total)
        file.flush()
        os.fsync(file.fileno())


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _validator(part: Path) -> str:
    path = part.with_name(part.name + _VALIDATOR_SUFFIX)
    return path.read_text() if path.is_file() else ""


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    part.with_name(part.name + _VALIDATOR_SUFFIX).unlink(missing_ok=True)


def _require_room(folder: Path, wanted: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < wanted + _SPARE_BYTES:
        needed = (wanted + _SPARE_BYTES) / 1e6
        raise PackError(f"{folder} has {free / 1e6:.0f} MB free; {needed:.0f} MB are needed")


def _accept(part: Path, target: Path, url: str, sha256: str | None, size: int | None) -> None:
    found = part.stat().st_size
    if size is not None and found != size:
        _forget(part)
        raise PackError(f"{url} has {found} bytes; {size} were expected")
    with part.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 is not None and digest != sha256:
        _forget(part)
        raise PackError(f"{url} has the SHA-256 {digest}; {sha256} was expected")
    part.rename(target)
    _forget(part)
