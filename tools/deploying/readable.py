"""Can the users of the containers read what is mounted for them? They are others than this one."""

from collections.abc import Iterator, Mapping
from itertools import chain
from os import stat_result
from pathlib import Path
from typing import Any, Final

from tools.deploying.configuration import Configuration

_OTHERS_READ: Final = 0o004
_OTHERS_ENTER: Final = 0o001
_SHIFTS: Final = {"owner": 6, "group": 3, "others": 0}


def unreadable(configuration: Configuration, users: Mapping[str, str]) -> Iterator[str]:
    """Find secrets and mounted files that a service cannot read.

    users: of the images, by service; a service whose image is not known yet is passed over. The
    engine mounts each for itself, so that a closed folder above it does not matter.
    """
    secrets = configuration.secret_files()
    for name, service in configuration.services.items():
        user = str(service.get("user") or users.get(name, "unknown"))
        if user == "unknown" or _reads_all(user, service):
            continue
        for secret in service.get("secrets") or ():
            path = secrets.get(secret["source"])
            if path is not None and _first_closed(path, user) is not None:
                is_protected = any(not each.stat().st_mode & _OTHERS_ENTER for each in path.parents)
                first = "" if is_protected else f"chmod 0700 {path.parent} && "
                yield (
                    f"secret {secret['source']}: {path} cannot be read by {name}, which is another "
                    f"user: {first}chmod 0644 {path}"
                )
        for volume in service.get("volumes") or ():
            if volume["type"] == "bind" and volume.get("read_only"):
                closed = _first_closed(Path(volume["source"]), user)
                if closed is not None:
                    yield (
                        f"{closed} cannot be read by {name}, which is another user: "
                        f"chmod -R a+rX {volume['source']}"
                    )


def _reads_all(user: str, service: Mapping[str, Any]) -> bool:
    return user.partition(":")[0] in ("", "0", "root") and not service.get("cap_drop")


def _first_closed(source: Path, user: str) -> Path | None:
    """Find the first of a file, or of a folder with all in it, that a user cannot read.

    What is missing, and what this user cannot look at, is found by others.
    """
    try:
        for path in chain([source], source.rglob("*") if source.is_dir() else ()):
            if not path.is_symlink() and path.exists() and not _can_read(path.stat(), user):
                return path
    except PermissionError:
        return None
    return None


def _can_read(status: stat_result, user: str) -> bool:
    """Whether `uid`, `uid:gid` or a name, which is somebody else, can read and enter."""
    uid, _, gid = (user or "root").partition(":")
    uid = "0" if uid == "root" else uid
    if uid.isdecimal() and int(uid) == status.st_uid:
        kind = "owner"
    elif gid.isdecimal() and int(gid) == status.st_gid:
        kind = "group"
    else:
        kind = "others"
    is_folder = status.st_mode & 0o170000 == 0o040000
    needed = _OTHERS_READ | (_OTHERS_ENTER if is_folder else 0)
    return (status.st_mode >> _SHIFTS[kind]) & needed == needed
