"""A PostgreSQL of Debian's package on a port of its own, which can be killed and started again."""

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from benchmarks.failures.programs import Program

_DEBIAN: Final = Path("/usr/lib/postgresql")
_USER: Final = "postgres"


def find_binaries() -> Path:
    """Find the folder of `initdb` and `postgres`; raises FileNotFoundError."""
    folders = sorted(_DEBIAN.glob("*/bin"), key=lambda path: float(path.parent.name))
    for folder in reversed(folders):
        if (folder / "initdb").exists():
            return folder
    found = shutil.which("initdb")
    if found is None:
        raise FileNotFoundError("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    return Path(found).parent


@asynccontextmanager
async def postgres(port: int) -> AsyncIterator[Program]:
    """Run a server until the end of the block, with a folder that is removed then.

    It refuses to run as root and then runs as Debian's user for it. It syncs nothing to the disk:
    a killed process loses nothing by that.
    """
    binaries = find_binaries()
    folder = Path(tempfile.mkdtemp(prefix="aurum-pg-", dir="/tmp"))
    user = None
    if os.geteuid() == 0:
        owner = pwd.getpwnam(_USER)
        os.chown(folder, owner.pw_uid, owner.pw_gid)
        user = owner.pw_uid
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
    data = str(folder / "data")
    initdb = [str(binaries / "initdb"), "-D", data, "-U", _USER, "-A", "trust", "-N", "-E", "UTF8"]
    is_ready = [str(binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port), "-t", "1"]

    listen = ("-p", str(port), "-k", str(folder))

    async def ready() -> bool:
        asked = await asyncio.create_subprocess_exec(*is_ready)
        return await asked.wait() == 0

    server = Program(
        "postgresql",
        [str(binaries / "postgres"), "-D", data, "-F", *("-h", "127.0.0.1"), *listen],
        environment,
        Path(tempfile.gettempdir()) / f"{folder.name}.log",
        ready,
        user=user,
        end_signal=signal.SIGINT,
    )
    try:
        await asyncio.to_thread(
            subprocess.run,
            initdb,
            check=True,
            capture_output=True,
            cwd=folder,
            env=environment,
            user=user,
        )
        await server.start()
        yield server
    finally:
        await server.end()
        shutil.rmtree(folder, ignore_errors=True)
        server.log.unlink(missing_ok=True)
