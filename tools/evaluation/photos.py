"""Photos from folders and tar files, some of them, spread evenly."""

import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from tools.errors import WeightsError

Photo = tuple[str, bytes]
"""Name and encoded bytes."""
_SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_TARS: Final = (".tar", ".tar.gz", ".tgz")


def sample(sources: Sequence[Path], *, most: int) -> Iterator[Photo]:
    """Every n-th photo of all sources, at most so many; raises WeightsError where there is none."""
    total = sum(len(_names(source)) for source in sources)
    if not total:
        told = ", ".join(map(str, sources))
        raise WeightsError(f"{told}: no photos ({', '.join(_SUFFIXES)}; folders and tar files)")
    step = max(-(-total // most), 1)
    number = 0
    for source in sources:
        names = _names(source)
        chosen = names[-number % step :: step]
        number += len(names)
        yield from _read(source, chosen)


def _names(source: Path) -> list[str]:
    try:
        if source.is_dir():
            paths = (path for path in source.rglob("*") if path.is_file())
            names = [str(path.relative_to(source)) for path in paths]
        elif source.name.endswith(_TARS):
            with tarfile.open(source) as archive:
                names = [member.name for member in archive if member.isfile()]
        else:
            names = [source.name] if source.is_file() else []
    except (OSError, tarfile.TarError) as error:
        raise WeightsError(f"{source} cannot be read: {error}") from error
    return sorted(name for name in names if name.lower().endswith(_SUFFIXES))


def _read(source: Path, names: Sequence[str]) -> Iterator[Photo]:
    if source.is_dir():
        for name in names:
            yield name, (source / name).read_bytes()
    elif source.name.endswith(_TARS):
        with tarfile.open(source) as archive:
            for name in names:
                file = archive.extractfile(name)
                if file is not None:
                    yield name, file.read()
    else:
        for name in names:
            yield name, source.read_bytes()
