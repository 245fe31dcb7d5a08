"""A private PostgreSQL of Debian's package for the tests: own folder, own socket, no port."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.certificates import Files

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


@dataclass(frozen=True, slots=True)
class Encryption:
    """What a server shows and asks for on a port; it then accepts no plain text there.

    Each user needs a certificate with its name.
    """

    port: int
    files: Files
    authority: Path

    def options(self, folder: Path, identity: dict[str, Any]) -> list[str]:
        """Copy the files to where the server may read them; returns its options."""
        options = ["-p", str(self.port), "-h", "127.0.0.1", "-c", "ssl=on"]
        given = {
            "ssl_cert_file": self.files.certificate,
            "ssl_key_file": self.files.key,
            "ssl_ca_file": self.authority,
        }
        for name, file in given.items():
            copy = folder / name
            shutil.copyfile(file, copy)
            copy.chmod(0o600)
            if identity:
                os.chown(copy, identity["user"], identity["group"])
            options += ["-c", f"{name}={copy}"]
        rules = folder / "hba"
        rules.write_text(
            "local all all trust\nhostssl all all 127.0.0.1/32 trust clientcert=verify-full\n"
        )
        rules.chmod(0o644)
        return [*options, "-c", f"hba_file={rules}"]


@contextmanager
def private_postgres(encryption: Encryption | None = None) -> Iterator[str]:
    """Start a cluster; yields the URL of its database `postgres`, at a socket.

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
        more = ["-h", ""] if encryption is None else encryption.options(folder, identity)
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [binaries / "postgres", "-D", data, "-k", folder, "-F", *more],
                stdout=log,
                stderr=log,
                cwd=folder,
                env=environment,
                **identity,
            )
        port = [] if encryption is None else ["-p", str(encryption.port)]
        wait = [binaries / "pg_isready", "-h", folder, *port, "-t", str(_START_SECONDS)]
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
