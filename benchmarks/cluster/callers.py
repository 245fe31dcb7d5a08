"""Callers of the cluster: `python -m benchmarks.cluster.callers URL KEY FILE SEED`.

Each kind of request is sent by two callers with our Python client: one retries as the client does
by default, the other never. What they saw goes into FILE, a line of JSON each, until SIGTERM.
"""

import asyncio
import itertools
import json
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from aurum_client import AsyncAurumClient, AurumError, FaceEmbedding, NamedImage, RetryPolicy

from benchmarks.failures.load import DIMENSION, PORTRAIT, SPACE

COLLECTION: Final = "people"
JOB_IMAGES: Final = 3
_PAUSE_SECONDS: Final = 0.25
_JOB_PAUSE_SECONDS: Final = 3.0
_ONCE: Final = RetryPolicy(attempts=1)


def embedding_of(subject: str) -> list[float]:
    """Return the embedding of a subject, always the same."""
    seed = int.from_bytes(subject.encode())
    return [float(x) for x in np.random.default_rng(seed).standard_normal(DIMENSION).round(4)]


class Caller:
    """Sends one kind of request after the other's answer."""

    def __init__(self, client: AsyncAurumClient, name: str, *, retries: bool, out: IO[str]) -> None:
        self._client, self._name, self._retries, self._out = client, name, retries, out
        self._numbers = itertools.count()
        self._photo = PORTRAIT.read_bytes()
        self._enrolled: list[str] = []
        self.operations: Mapping[str, Callable[[], Awaitable[None]]] = {
            "score": self._score,
            "enrol": self._enrol,
            "search": self._search,
            "job": self._job,
        }

    async def go_on(self, operation: str, stopped: asyncio.Event) -> None:
        """Ask until `stopped` is set, and wait for the last answer."""
        pause = _JOB_PAUSE_SECONDS if operation == "job" else _PAUSE_SECONDS
        while not stopped.is_set():
            await self._ask(operation)
            await asyncio.sleep(pause)

    async def _ask(self, operation: str) -> None:
        at, problem = time.monotonic(), ""
        try:
            await self.operations[operation]()
        except AurumError as error:
            status = getattr(error, "status", "")
            problem = f"{status} {getattr(error, 'code', '')}".strip() or type(error).__name__
        seconds = time.monotonic() - at
        self._write(
            kind="answer",
            operation=operation,
            retries=self._retries,
            at=at,
            seconds=seconds,
            problem=problem,
        )

    async def _score(self) -> None:
        await self._client.score(self._new_photo())

    async def _enrol(self) -> None:
        subject = f"{self._name}-{next(self._numbers)}"
        done = await self._client.enrol_embeddings(
            COLLECTION, [FaceEmbedding(embedding_of(subject))], space=SPACE, subject=subject
        )
        self._enrolled.append(subject)
        self._write(kind="face", face=done.faces[0].face_id, subject=subject)

    async def _search(self) -> None:
        # the first asks for somebody who is not there
        known = bool(self._enrolled)
        subject = self._enrolled[-1] if known else self._name
        found = await self._client.search_embedding(
            COLLECTION, embedding_of(subject), space=SPACE, subject=subject
        )
        if known and not found.faces[0].matches:
            self._write(kind="missed", subject=subject)

    async def _job(self) -> None:
        images = [NamedImage(f"{n}.jpg", self._new_photo()) for n in range(JOB_IMAGES)]
        job = await self._client.jobs.submit(images, upload_seconds=60)
        self._write(kind="job", job=job.job_id)

    def _new_photo(self) -> bytes:
        # whatever follows the end of a JPEG is no part of the picture, but another image to caches
        return self._photo + f"{self._name}-{next(self._numbers)}-{time.time_ns()}".encode()

    def _write(self, **line: Any) -> None:
        self._out.write(json.dumps(line) + "\n")
        self._out.flush()


async def call(url: str, key: str, file: Path, seed: str) -> None:
    """Ask until SIGTERM."""
    with file.open("a") as out:
        async with AsyncAurumClient(url, api_key=key) as client:
            patient = Caller(client, f"{seed}r", retries=True, out=out)
            hasty = Caller(client.with_options(retry=_ONCE), f"{seed}n", retries=False, out=out)
            stopped = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
            async with asyncio.TaskGroup() as group:
                for caller in (patient, hasty):
                    for operation in caller.operations:
                        group.create_task(caller.go_on(operation, stopped))


if __name__ == "__main__":
    asyncio.run(call(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4]))
