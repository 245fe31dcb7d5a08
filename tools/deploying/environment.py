"""Can this machine run the project? All that is wrong is found before anything is changed."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from gateway.checkout import CHECKOUT
from gateway.settings import PREFIX, Settings
from tools.clients.listeners import Listener
from tools.deploying.configuration import Configuration, Port
from tools.deploying.engine import Facts, Project
from tools.deploying.errors import DeployError
from tools.serving.errors import ServingError
from tools.serving.ports import check_free

_GIB: Final = 1024**3
_FIRST_OPEN_PORT: Final = 1024
_OTHERS_ACCESS: Final = 0o007
_OTHERS_ENTER: Final = 0o001
_GROUP_WRITES: Final = 0o020
_GROUP_ENTERS: Final = 0o010
_SECONDS: Final = 60.0
_SECRETS_FOLDER: Final = f"{PREFIX}SECRETS_FOLDER"
_CDI_FOLDERS: Final = (Path("/etc/cdi"), Path("/var/run/cdi"))
_VARIABLE: Final = re.compile(rf"^\s*(?:export\s+)?({PREFIX}\w+)\s*=", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Needs:
    """What must be free, in GiB (2^30 bytes)."""

    disk_gib: float
    memory_gib: float


def disk_problems(facts: Facts, home: Path, needs: Needs) -> Iterator[str]:
    """Find disks with too little room: of the engine's images, and of the home."""
    folders = [home] if facts.root is None else [facts.root, home]
    for folder in folders:
        there = next(each for each in (folder, *folder.parents) if each.exists())
        free = shutil.disk_usage(there).free / _GIB
        if free < needs.disk_gib:
            yield f"{free:.1f} GiB are free on the disk of {folder}; {needs.disk_gib:g} are needed"


def memory_problems(needs: Needs) -> Iterator[str]:
    """Find too little memory."""
    free = _free_memory_gib()
    if free < needs.memory_gib:
        yield f"{free:.1f} GiB of memory are free; {needs.memory_gib:g} are needed"


def describe_memory(configuration: Configuration) -> str:
    """Compare what all containers together may take with what is free; empty if it is there."""
    limit, free = configuration.memory_limits_bytes() / _GIB, _free_memory_gib()
    if limit <= free:
        return ""
    return (
        f"containers may take {limit:.1f} GiB of memory, and {free:.1f} GiB are free: under load "
        "the kernel may end some of them"
    )


def _free_memory_gib() -> float:
    return psutil.virtual_memory().available / _GIB


def port_problems(configuration: Configuration, ours: Collection[int]) -> Iterator[str]:
    """Find ports in use; `ours`: those of containers that are going to be replaced."""
    for port in configuration.ports():
        if port.number in ours:
            continue
        if port.number < _FIRST_OPEN_PORT and os.geteuid() != 0:
            # the engine may use it, and this user may not even try
            if _is_listened_to(port.number):
                yield f"port {port.number} for the service {port.service} is in use"
            continue
        try:
            check_free([_listener(port)])
        except ServingError as error:
            yield str(error).partition("; set ")[0]


def _is_listened_to(number: int) -> bool:
    """Whether any program of this machine listens on a port, also those of other users."""
    return any(
        connection.status == psutil.CONN_LISTEN
        and getattr(connection.laddr, "port", None) == number
        for connection in psutil.net_connections("tcp")
    )


def triton_problems(configuration: Configuration) -> Iterator[str]:
    """Find services whose Triton is not in the project: they would answer slower, without it."""
    for service, host in configuration.unknown_tritons():
        yield (
            f"{service} asks {host} for inference ({PREFIX}TRITON_GRPC_URL), but no service "
            "has that name: choose a profile (--profile cpu or gpu, or COMPOSE_PROFILES in .env)"
        )


def gpu_problems(configuration: Configuration, facts: Facts) -> Iterator[str]:
    """Find a GPU missing that a service reserves, or an engine that cannot hand it out."""
    services = configuration.wants_gpu()
    if not services:
        return
    if "GPU " not in _list_gpus():
        yield f"{', '.join(services)} needs a GPU, and nvidia-smi lists none"
    # Podman, and Docker from 25 on, read this description instead
    described = any((folder / "nvidia.yaml").is_file() for folder in _CDI_FOLDERS)
    if "nvidia" not in facts.runtimes and not described:
        yield "the engine has no runtime for GPUs: install NVIDIA's container toolkit"


def _list_gpus() -> str:
    """What NVIDIA's driver lists; empty without one."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    command = [program, "--list-gpus"]
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=_SECONDS, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def secret_problems(configuration: Configuration) -> Iterator[str]:
    """Find files of secrets that are missing, empty, or open to others."""
    for name, path in configuration.secret_files().items():
        try:
            status = path.stat()
            is_file = path.is_file()
        except OSError as error:
            yield f"secret {name}: {path}: {error.strerror}"
            continue
        if not is_file or status.st_size == 0:
            yield f"secret {name}: {path} is {'empty' if is_file else 'no file'}"
        if _is_open(path, status.st_mode):
            mode = status.st_mode & 0o777
            # a narrower mode of the file would keep its container out, too
            yield (
                f"secret {name}: {path} has mode {mode:04o}; others must not reach it: "
                f"chmod 0700 {path.resolve().parent}"
            )


def _is_open(path: Path, mode: int) -> bool:
    """Whether others reach a file, or its group may change it; a closed folder protects it."""
    folders = [folder.stat().st_mode for folder in path.resolve().parents]
    others = mode & _OTHERS_ACCESS and all(folder & _OTHERS_ENTER for folder in folders)
    group = mode & _GROUP_WRITES and all(folder & _GROUP_ENTERS for folder in folders)
    return bool(others or group)


def mount_problems(configuration: Configuration) -> Iterator[str]:
    """Find files and folders missing that services only read."""
    seen: set[Path] = set()
    for mount in configuration.mounts():
        if mount.read_only and not mount.source.exists() and mount.source not in seen:
            seen.add(mount.source)
            yield f"{mount.source}, which {mount.service} reads, is missing"


def settings_problems(configuration: Configuration, project: Project) -> Iterator[str]:
    """Load the settings of each service as its container would, and look for unknown names."""
    checked: dict[str, str] = {}
    for service, given in configuration.settings_of_services():
        ours = {name: value for name, value in given.items() if name.startswith(PREFIX)}
        secrets = configuration.secrets_of(service)
        key = repr((sorted(ours.items()), sorted(secrets.items())))
        if key not in checked:
            checked[key] = _why_not(ours, secrets)
        if checked[key]:
            yield f"settings of {service}: {checked[key]}"
    yield from _unknown_in_file(project)


def _why_not(given: Mapping[str, str], secrets: Mapping[Path, Path]) -> str:
    """Load settings as a container would, whose folder of secrets this machine does not have."""
    # the checkout's code, whichever is installed
    path = os.pathsep.join([str(CHECKOUT), *filter(None, sys.path)])
    inside = given.get(_SECRETS_FOLDER)
    read = {}
    for target, source in secrets.items():
        if inside is not None and target.parent == Path(inside) and target.name.startswith(PREFIX):
            # a file that cannot be read is a problem of its own
            with suppress(OSError, UnicodeDecodeError):
                read[target.name] = source.read_text().strip()
    done = subprocess.run(
        [sys.executable, "-m", "tools.deploying.settings_check"],
        env={
            "PATH": os.environ.get("PATH", ""),
            "PYTHONPATH": path,
            **read,
            **{name: value for name, value in given.items() if name != _SECRETS_FOLDER},
        },
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    if done.returncode == 0:
        return ""
    return (done.stderr.strip().splitlines() or ["they cannot be loaded"])[-1]


def _unknown_in_file(project: Project) -> Iterator[str]:
    """Find variables that reach nobody: no setting, and not named in the files."""
    if project.env_file is None:
        return
    named = "".join(file.read_text() for file in project.files)
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for variable in _VARIABLE.findall(project.env_file.read_text()):
        if variable not in known and variable not in named:
            yield f"{project.env_file}: {variable} is neither a setting nor used by a file"


def _listener(port: Port) -> Listener:
    host = port.host or "0.0.0.0"  # noqa: S104 - as Compose does
    return Listener(f"the service {port.service}", "port", host, port.number)


def create_folders(
    configuration: Configuration, users: Mapping[str, str], *, dry_run: bool
) -> Iterator[str]:
    """Create folders that services write and that are missing, owned by the service's user.

    users: of the images, by service, where the service names none. Yields what was done.

    Raises:
        DeployError: a folder cannot be made, or this user cannot give it to the other.

    """
    for mount in configuration.mounts():
        if mount.read_only or mount.source.exists():
            continue
        owner = _numbers(mount.user or users.get(mount.service, ""))
        what = f"{mount.source} for {mount.service}"
        whose = f", owned by {owner[0]}:{owner[1]}" if owner else ""
        if dry_run:
            yield f"would create {what}{whose}"
            continue
        try:
            mount.source.mkdir(parents=True, mode=0o750)
            if owner and owner != (os.geteuid(), os.getegid()):
                os.chown(mount.source, *owner)
        except OSError as error:
            raise DeployError(f"{what} cannot be made{whose}: {error.strerror}") from error
        yield f"created {what}{whose}"


def _numbers(user: str) -> tuple[int, int] | None:
    """Read `uid` or `uid:gid`; names have a meaning within the image only."""
    uid, _, gid = user.partition(":")
    if not uid.isdecimal() or (gid and not gid.isdecimal()):
        return None
    return int(uid), int(gid or uid)
