"""Which photos of the training sets are held out, and reading them from their tar files."""

import csv
import io
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from tools.evaluation.photos import Photo

HELD_OUT_SHARE = 0.05  # of FairFace and UTKFace, by hash of the file's name
HELD_OUT_SCENES = 0.35


def held_out(data: Path) -> Iterator[Photo]:
    """Photos of a folder of tar files on which the built-in detector was not trained."""
    for tar in sorted(data.glob("*.tar")):
        test = mebeauty_test_names(tar) if tar.stem.startswith("mebeauty") else frozenset()
        share = HELD_OUT_SCENES if tar.stem.startswith("scenes") else HELD_OUT_SHARE
        for name, image in read_images(tar):
            chosen = "/".join(name.split("/")[-3:]) in test if test else hash_share(name) < share
            if chosen:
                yield name, image


def read_images(path: Path) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of the images in a tar file, in its order."""
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isfile() and member.name.lower().endswith((".jpg", ".jpeg", ".png")):
                handle = archive.extractfile(member)
                if handle is not None:
                    yield member.name, handle.read()


def hash_share(name: str) -> float:
    """Return a number in 0-1 that depends on the name alone."""
    return (zlib.crc32(name.encode()) % 10_000) / 10_000


def mebeauty_test_names(path: Path) -> frozenset[str]:
    """File names of MEBeauty's test split, as ``sex/group/file``."""
    with tarfile.open(path) as archive:
        handle = archive.extractfile("mebeauty/test.csv")
        if handle is None:
            raise FileNotFoundError(f"{path}: mebeauty/test.csv")
        rows = list(csv.DictReader(io.TextIOWrapper(handle, "utf-8")))
    return frozenset("/".join(row["image"].split("/")[-3:]) for row in rows)
