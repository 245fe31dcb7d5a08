"""A private PostgreSQL of Debian's package for the tests: own folder, own socket, no port."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_DEBIAN = Path("/usr/lib/postgresql")
_START_SECONDS = 60


def find_binaries() -> Path | None:
    """The folder of `initdb` and `postgres`, of the newest version installed."""
    if _DEBIAN.is_dir():
        folders = sorted(_DEBIAN.glob("*/bin"), key=lambda path: float(path.parent.name))
        for folder in reversed(folders):
            if (folder / "initdb").exists():
                return folder
    found = shutil.which("initdb")
    return Path(found).parent if found else None


@contextmanager
def private_postgres() -> Iterator[str]:
    """Start a cluster; yields the URL of its database `postgres`.

    The server refuses to run as root: then it runs as the user that owns Debian's clusters.
    """
    binaries = find_binaries()
    if binaries is None:
        message = "PostgreSQL is not installed (Debian: apt-get install postgresql)"
        raise FileNotFoundError(message)
    # a socket's path may have 107 characters: not below pytest's own folder
    folder = Path(tempfile.mkdtemp(prefix="aurum-pg-", dir="/tmp"))
    identity: dict[str, Any] = {}
    if os.geteuid() == 0:
        owner = pwd.getpwnam("postgres")
        os.chown(folder, owner.pw_uid, owner.pw_gid)
        identity = {"user": owner.pw_uid, "group": owner.pw_gid}
    data = folder / "data"
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
    process = None
    try:
        subprocess.run(
            [binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8"],
            check=True,
            capture_output=True,
            cwd=folder,
            env=environment,
            **identity,
        )
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [binaries / "postgres", "-D", data, "-k", folder, "-h", "", "-F"],
                stdout=log,
                stderr=log,
                cwd=folder,
                env=environment,
                **identity,
            )
        wait = [binaries / "pg_isready", "-h", folder, "-t", str(_START_SECONDS)]
        _wait_until_ready(process, [str(part) for part in wait])
        yield f"postgresql://postgres@/postgres?host={folder}"
    finally:
        if process is not None:
            # "immediate shutdown": nothing in there is kept
            process.send_signal(signal.SIGQUIT)
            process.wait(30)
        shutil.rmtree(folder)


def _wait_until_ready(process: "subprocess.Popen[bytes]", command: list[str]) -> None:
    for _ in range(_START_SECONDS * 5):
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return
        try:
            process.wait(0.2)
        except subprocess.TimeoutExpired:
            continue
        break
    message = f"PostgreSQL did not start ({process.returncode})"
    raise TimeoutError(message)
