"""Packs on this machine: fetched once, checked at each use, one fetch at a time."""

import asyncio
import fcntl
import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import orjson

from tools.errors import PackError
from tools.packs.archive import extract
from tools.packs.download import PATIENCE, Patience, Progress, download
from tools.packs.manifest import Pack

_INDEX: Final = "files.json"


@dataclass(frozen=True, slots=True)
class Cache:
    """The folder of all packs, and what is tried before a pack's own URL."""

    folder: Path
    mirror: str | None = None
    """A folder, or the URL of one; it holds `<pack>.zip`, or the networks themselves."""
    patience: Patience = PATIENCE

    def cached(self, pack: Pack) -> dict[str, Path] | None:
        """Paths of the networks by stage, if all are here and what they were; else None."""
        folder = self.folder / pack.name
        try:
            known = orjson.loads((folder / _INDEX).read_bytes())
        except (OSError, orjson.JSONDecodeError):
            return None
        for file in pack.files:
            path = folder / file.name
            expected = file.sha256 or known.get(file.name)
            if not path.is_file() or expected is None or digest_of(path) != expected:
                return None
        return {file.stage: folder / file.name for file in pack.files}

    def fetch(self, pack: Pack, *, progress: Progress) -> dict[str, Path]:
        """Give the networks of a pack by stage, from the cache or its sources.

        Raises:
            PackError: naming each source and what was wrong with it.
        """
        if pack.archive is None:
            raise PackError(f"{pack.name} is built in; there is nothing to fetch")
        with self._locked(pack):
            found = self.cached(pack)
            if found is not None:
                return found
            folder = self.folder / pack.name
            folder.mkdir(parents=True, exist_ok=True)
            problems = []
            for source in (self._loose, self._archived, self._from_url):
                try:
                    digests = source(pack, folder, progress)
                except PackError as error:
                    problems.append(str(error))
                    continue
                if digests is not None:
                    (folder / _INDEX).write_bytes(orjson.dumps(digests))
                    return {file.stage: folder / file.name for file in pack.files}
            raise PackError("; ".join(problems))

    def _loose(self, pack: Pack, folder: Path, _: Progress) -> dict[str, str] | None:
        # networks beside each other in the mirror, if each can be checked by itself
        if self.mirror is None or _is_url(self.mirror):
            return None
        mirror = Path(self.mirror)
        if (mirror / f"{pack.name}.zip").is_file():
            return None
        sources = {file.name: mirror / file.name for file in pack.files}
        if not all(file.sha256 is not None and sources[file.name].is_file() for file in pack.files):
            return None
        digests = {}
        for file in pack.files:
            digests[file.name] = digest_of(sources[file.name])
            if digests[file.name] != file.sha256:
                raise PackError(
                    f"{sources[file.name]} has the SHA-256 {digests[file.name]}; {file.sha256} was "
                    "expected"
                )
            shutil.copyfile(sources[file.name], folder / file.name)
        return digests

    def _archived(self, pack: Pack, folder: Path, progress: Progress) -> dict[str, str] | None:
        if self.mirror is None or pack.archive is None:
            return None
        if _is_url(self.mirror):
            return self._download(f"{self.mirror.rstrip('/')}/{pack.name}.zip", pack, progress)
        archive = Path(self.mirror) / f"{pack.name}.zip"
        if not archive.is_file():
            raise PackError(f"{self.mirror} has no {pack.name}.zip")
        digest = digest_of(archive)
        if pack.archive.sha256 not in (None, digest):
            raise PackError(
                f"{archive} has the SHA-256 {digest}; {pack.archive.sha256} was expected"
            )
        return extract(archive, pack.files, folder)

    def _from_url(self, pack: Pack, folder: Path, progress: Progress) -> dict[str, str] | None:
        del folder
        return (
            None if pack.archive is None else self._download(str(pack.archive.url), pack, progress)
        )

    def _download(self, url: str, pack: Pack, progress: Progress) -> dict[str, str]:
        if pack.archive is None:
            raise PackError(f"{pack.name} has no archive")
        # what one source left half done is not continued from another
        mark = hashlib.sha256(url.encode()).hexdigest()[:8]
        target = self.folder / pack.name / f"{pack.name}-{mark}.zip"
        try:
            asyncio.run(
                download(
                    url,
                    target,
                    sha256=pack.archive.sha256,
                    size=pack.archive.bytes,
                    progress=progress,
                    patience=self.patience,
                )
            )
            return extract(target, pack.files, self.folder / pack.name)
        finally:
            target.unlink(missing_ok=True)

    @contextmanager
    def _locked(self, pack: Pack) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{pack.name}.lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                message = f"another process is fetching {pack.name} into {self.folder}"
                raise PackError(message) from None
            yield


def _is_url(text: str) -> bool:
    return urlsplit(text).scheme in ("http", "https")


def digest_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
