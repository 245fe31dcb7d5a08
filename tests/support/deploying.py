"""A folder with a project, a recorded engine, and `aurum deploy` called as people call it."""

import asyncio
import os
import sys
from pathlib import Path

from tests.support.command_line import PYTHONPATH, Finished, run_in_process
from tests.support.fake_inference import FakeInference
from tests.support.recorded_engine import RecordedEngine
from tests.support.serving import free_ports, wait_until
from tools.deploying.journal import Event, Journal

_COMPOSE = """\
name: trial
services:
  gateway:
    build: .
    environment:
      AURUM_LOG_LEVEL: ${AURUM_LOG_LEVEL:-info}
      AURUM_WEBHOOK_SECRET: ${AURUM_WEBHOOK_SECRET:-0123456789abcdef$$x}
    ports: ["127.0.0.1:%d:8080"]
    volumes: ["./nginx.conf:/etc/nginx.conf:ro", "./state:/state"]
    secrets: [password]
  redis:
    image: redis:7.4.2-alpine
    profiles: [cache]
secrets:
  password:
    file: ./password
"""


class Place:
    """A folder with a project, an engine that runs nothing, and a gateway that answers."""

    def __init__(self, folder: Path, inference: FakeInference, url: str) -> None:
        self.folder = folder
        self.inference = inference
        self.url = url
        self.engine = RecordedEngine.make(folder / "engine")
        self.journal = Journal(folder / "home")
        self.project = folder / "project"
        self.project.mkdir()
        self.write("docker-compose.yml", _COMPOSE % free_ports(1)[0])
        self.write("code", "one")
        self.write("nginx.conf", "first")
        self.write("password", "secret")
        # containers read it as another user, and others may not enter the folder
        (self.project / "password").chmod(0o644)
        self.project.chmod(0o700)

    def write(self, name: str, text: str) -> None:
        """Write a file of the project."""
        (self.project / name).write_text(text)

    @property
    def environment(self) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("AURUM_")}
        path = f"{self.engine.bin}{os.pathsep}{clean['PATH']}"
        return {**clean, "PATH": path, "AURUM_HOME": str(self.folder / "home")}

    def arguments(self, *more: str) -> list[str]:
        file = str(self.project / "docker-compose.yml")
        limits = ["--free-disk-gib", "0", "--free-memory-gib", "0"]
        waits = ["--start-seconds", "1", "--photo-seconds", "20"]
        return [
            "deploy",
            "--file",
            file,
            "--profile",
            "cache",
            "--url",
            self.url,
            *limits,
            *waits,
            *more,
        ]

    async def aurum(self, *arguments: str, home: Path | None = None) -> Finished:
        environment = self.environment | ({"AURUM_HOME": str(home)} if home else {})
        return await asyncio.to_thread(
            run_in_process, arguments, environment=environment, folder=self.folder
        )

    async def deploy(self, *more: str) -> Finished:
        return await self.aurum(*self.arguments(*more))

    async def start(self) -> asyncio.subprocess.Process:
        """Deploy in a process of its own, until the engine hangs in `up`."""
        (self.engine.folder / "hang").touch()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tools", *self.arguments()),
            env={**self.environment, "PYTHONPATH": PYTHONPATH},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        hanging = self.engine.folder / "hanging"
        assert await asyncio.to_thread(wait_until, lambda: hanging.exists(), timeout_seconds=60)
        return process

    def events(self, number: int) -> list[Event]:
        return [entry.event for entry in self.journal.entries() if entry.number == number]

    def engine_is_at_work(self) -> bool:
        pid = int((self.engine.folder / "hanging").read_text())
        return Path(f"/proc/{pid}").exists()


async def deployed(place: Place) -> Finished:
    """Deploy what lies there, which has to succeed."""
    done = await place.deploy()
    assert done.returncode == 0, done.stdout + done.stderr
    return done
