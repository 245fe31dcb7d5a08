"""Reads archives as inputs of a bulk command."""

from collections.abc import Iterator
from pathlib import Path

from gateway.archives.reader import read_members
from gateway.archives.types import (
    DEFAULT_LIMITS,
    Limits,
    Member,
    OtherMember,
    RefusedMember,
)
from tools.batch.types import Input, Photo, Refused, Skipped


def read_archive(path: Path, name: str, limits: Limits = DEFAULT_LIMITS) -> Iterator[Input]:
    """Yield the members of a zip, tar or tar.gz in their order, named `<name>/<member>`.

    A damaged or malicious archive ends with a `Refused` of its own; what comes before is read.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        yield Refused(name, f"the archive is damaged: {error}", 0)
        return
    with file:
        for member in read_members(file, limits):
            yield _input_of(member, name)


def _input_of(member: Member, archive: str) -> Input:
    full = archive if member.name is None else f"{archive}/{member.name}"
    if isinstance(member, RefusedMember):
        return Refused(full, member.reason, member.weight)
    if isinstance(member, OtherMember):
        return Skipped(full, member.weight)
    return Photo.of(full, member.data, weight=member.weight, member=member.name)
