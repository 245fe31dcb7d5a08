"""Aurum as one of the services that are compared."""

import json
import subprocess
from collections.abc import Mapping
from typing import IO, ClassVar

from benchmarks.peers.peer import project_version
from benchmarks.peers.service import Request, Service
from benchmarks.support.processes import tree, with_environment
from benchmarks.support.served import CHECKOUT, Prepared


class Aurum(Service):
    """`make up`, then `POST /api/ml/embed` with the photo as the body."""

    name: ClassVar[str] = "Aurum"
    work: ClassVar[str] = "detector on 640 pixels, closer in doubt, embeddings of all faces"

    def __init__(self, stack: Prepared) -> None:
        self._stack = stack

    def launch(self, port: int, log: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start in the background; the launched process ends when the stack is ready."""
        return subprocess.Popen(
            self._stack.up_command,
            env={**self._stack.environment, "AURUM_PORT": str(port)},
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )

    def processes(self, launched: subprocess.Popen[bytes]) -> list[int]:
        """All processes of the stack's home: supervisor, Triton with its stages, gateway, Redis."""
        launched.wait()
        found = with_environment("AURUM_HOME", self._stack.environment["AURUM_HOME"])
        # Redis writes its name over its environment; the supervisor is its parent
        return sorted({pid for one in found for pid in tree(one)})

    def stop(self, launched: subprocess.Popen[bytes]) -> None:
        """`make down`."""
        launched.wait()
        self._stack.down()

    def request(self, photo: bytes) -> Request:
        """The photo as it is."""
        return Request("/api/ml/embed", photo, "image/jpeg")

    def faces(self, answer: bytes) -> int:
        """Of `faces`."""
        return sum(len(face["embedding"]) > 0 for face in json.loads(answer)["faces"])

    def origin(self) -> Mapping[str, str]:
        """Version and commit of this checkout."""
        command = ["git", "-C", str(CHECKOUT), "describe", "--always", "--dirty"]
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        commit = finished.stdout.strip() or "unknown"
        version = project_version(CHECKOUT / "pyproject.toml")
        return {"version": version, "built from": f"this checkout, commit {commit}"}
