"""Callers that go on asking while components fail, and what each of them saw."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import numpy as np

from benchmarks.failures.jobs import BATCH, new_job
from benchmarks.support.served import CHECKOUT

PORTRAIT: Final = CHECKOUT / "triton_python_backend" / "portrait.jpg"
PEOPLE: Final = "/api/collections/people"
"""Faces enrolled from photos."""
VECTORS: Final = "/api/collections/vectors"
"""Faces enrolled as embeddings: needs no Triton."""
SPACE: Final = "00000000000000a1"
DIMENSION: Final = 64
HANGS: Final = 0
"""In the place of a status: no answer long after the deadline."""
BROKEN: Final = -1
"""In the place of a status: the connection was refused or ended without an answer."""
_LOOKS_AT_ONCE: Final = 4
_FIRST_TRIES: Final = 5
_JOB_PAUSE_SECONDS: Final = 1.5
_JPEG: Final = {"Content-Type": "image/jpeg"}


@dataclass(frozen=True, slots=True)
class Seen:
    """One answer, as its caller saw it. at: when it was asked, in seconds of the monotonic clock.

    engine: what computed the faces, or "cached".
    """

    operation: str
    at: float
    seconds: float
    status: int
    code: str = ""
    retry_after: bool = False
    engine: str = ""
    detail: str = ""

    @property
    def good(self) -> bool:
        """Whether it did what was asked."""
        return 200 <= self.status < 300


class Load:
    """One caller for each kind of request; each asks again a moment after its last answer."""

    def __init__(self, url: str, *, deadline_seconds: float, pause_seconds: float = 0.3) -> None:
        self.seen: list[Seen] = []
        self.enrolled: list[tuple[str, str, str]] = []
        """What was acknowledged: collection, face id, subject."""
        self.jobs: list[str] = []
        """Jobs that were acknowledged."""
        self.embeddings: dict[str, list[float]] = {}
        self._url = url
        self._pause_seconds = pause_seconds
        self._faces_taken = self._jobs_taken = 0
        self._resting = False
        self._patience = aiohttp.ClientTimeout(total=3 * deadline_seconds + 5)
        self._photo = PORTRAIT.read_bytes()
        self._numbers = itertools.count()
        self._random = np.random.default_rng(11)
        self.operations: Mapping[str, Callable[[aiohttp.ClientSession], Awaitable[Seen]]] = {
            "score": lambda client: self._ask(client, "score", self._new_photo()),
            "score, known photo": lambda client: self._ask(client, "score", self._photo, known=1),
            "detect": lambda client: self._ask(client, "detect", self._new_photo()),
            "embed": lambda client: self._ask(client, "embed", self._new_photo()),
            "enrol a photo": self._enrol_photo,
            "enrol an embedding": self._enrol_embedding,
            "search": self._search,
            "create a job": self._create_job,
            "show jobs": lambda client: self._get(client, "show jobs", "/api/ml/jobs"),
            "readiness": lambda client: self._get(client, "readiness", "/api/health/ready"),
        }

    async def prepare(self) -> None:
        """Make the collections, and have every operation answered once."""
        async with self.session() as client:
            for name in ("people", "vectors"):
                async with client.post("/api/collections", json={"name": name}) as response:
                    response.raise_for_status()
            for name, ask in self.operations.items():
                for _ in range(_FIRST_TRIES):
                    # a first call starts processes and connects
                    seen = await ask(client)
                    if seen.good:
                        break
                else:
                    message = f"{name} does not work before anything failed: {seen}"
                    raise RuntimeError(message)

    def session(self) -> aiohttp.ClientSession:
        """Make a client of the gateway."""
        return aiohttp.ClientSession(self._url, timeout=self._patience)

    async def go_on(self) -> None:
        """Ask until cancelled."""

        async def caller(ask: Callable[[aiohttp.ClientSession], Awaitable[Seen]]) -> None:
            async with self.session() as client:
                while True:
                    if not self._resting:
                        self.seen.append(await ask(client))
                    await asyncio.sleep(self._pause_seconds)

        async with asyncio.TaskGroup() as group:
            for ask in self.operations.values():
                group.create_task(caller(ask))

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Ask nothing meanwhile: jobs come last in Triton, and shall end."""
        self._resting = True
        try:
            yield
        finally:
            self._resting = False

    def take_acknowledged(self) -> tuple[list[tuple[str, str, str]], list[str]]:
        """Return the faces and jobs that were acknowledged since this was last called."""
        faces, jobs = self.enrolled[self._faces_taken :], self.jobs[self._jobs_taken :]
        self._faces_taken, self._jobs_taken = len(self.enrolled), len(self.jobs)
        return faces, jobs

    async def lost(self, faces: Collection[tuple[str, str, str]]) -> list[str]:
        """Look for faces (collection, id, subject); return the ids of those not found.

        A face is found where the collection lists it and a search for it, too.
        """
        slots = asyncio.Semaphore(_LOOKS_AT_ONCE)
        async with self.session() as client:
            listed = {at: await _listed(client, at) for at in (PEOPLE, VECTORS)}

            async def is_lost(at: str, face: str, subject: str) -> str | None:
                async with slots, client.post(f"{at}/search", **self._probe(at, subject)) as answer:
                    body = await answer.json()
                found = {m["face_id"] for f in body.get("faces", ()) for m in f["matches"]}
                return None if face in found & listed[at] else face

            looked = await asyncio.gather(*(is_lost(*face) for face in faces))
        return [face for face in looked if face is not None]

    def _probe(self, at: str, subject: str) -> dict[str, Any]:
        """Make the body of a search for the faces of one subject."""
        probe = {"subject": subject, "group_by": "face", "min_similarity": 0.99}
        if at == VECTORS:
            known = {"space": SPACE, "embedding": self.embeddings[subject]}
            return {"json": {**probe, **known}}
        form = aiohttp.FormData({key: str(value) for key, value in probe.items()})
        form.add_field("image", self._photo, filename="photo.jpg")
        return {"data": form}

    def _new_photo(self) -> bytes:
        # whatever follows the end of a JPEG is no part of the picture, but another image to caches
        return self._photo + f"{next(self._numbers)}-{time.time_ns()}".encode()

    async def _ask(
        self, client: aiohttp.ClientSession, route: str, photo: bytes, *, known: bool | int = False
    ) -> Seen:
        operation = f"{route}, known photo" if known else route
        seen, _ = await self._send(
            client, operation, "POST", f"/api/ml/{route}", data=photo, headers=_JPEG
        )
        return seen

    async def _get(self, client: aiohttp.ClientSession, operation: str, path: str) -> Seen:
        return (await self._send(client, operation, "GET", path))[0]

    async def _enrol_photo(self, client: aiohttp.ClientSession) -> Seen:
        subject = f"p{next(self._numbers)}"
        form = aiohttp.FormData({"subject": subject, "quality": "off"})
        form.add_field("image", self._new_photo(), filename="photo.jpg")
        return await self._enrol(client, "enrol a photo", PEOPLE, subject, data=form)

    async def _enrol_embedding(self, client: aiohttp.ClientSession) -> Seen:
        subject = f"e{next(self._numbers)}"
        vector = self._random.standard_normal(DIMENSION).round(4).tolist()
        self.embeddings[subject] = vector
        body = {"space": SPACE, "embedding": vector, "subject": subject}
        return await self._enrol(client, "enrol an embedding", VECTORS, subject, json=body)

    async def _enrol(
        self, client: aiohttp.ClientSession, operation: str, at: str, subject: str, **body: Any
    ) -> Seen:
        seen, answer = await self._send(client, operation, "POST", f"{at}/faces", **body)
        if seen.good:
            self.enrolled += [(at, face["face_id"], subject) for face in answer["faces"]]
        return seen

    async def _create_job(self, client: aiohttp.ClientSession) -> Seen:
        seen, answer = await self._send(
            client, "create a job", "POST", BATCH, json=new_job(self._new_photo)
        )
        if seen.good:
            self.jobs.append(answer["job_id"])
            # the next one when this one has had its time: jobs shall not pile up
            await asyncio.sleep(_JOB_PAUSE_SECONDS)
        return seen

    async def _search(self, client: aiohttp.ClientSession) -> Seen:
        known = [subject for at, _, subject in self.enrolled if at == VECTORS]
        subject = known[int(self._random.integers(len(known)))]
        body = {"space": SPACE, "embedding": self.embeddings[subject]}
        path = f"{VECTORS}/search"
        seen, _ = await self._send(client, "search", "POST", path, json=body)
        return seen

    async def _send(
        self, client: aiohttp.ClientSession, operation: str, method: str, path: str, **sent: Any
    ) -> tuple[Seen, dict[str, Any]]:
        started = time.monotonic()

        def note(status: int, **more: Any) -> Seen:
            return Seen(operation, started, time.monotonic() - started, status, **more)

        try:
            async with client.request(method, path, **sent) as response:
                answer = await response.json(content_type=None)
                engine = "cached" if answer.get("cached") else str(answer.get("engine", ""))
                seen = note(
                    response.status,
                    code=str(answer.get("code", "")),
                    retry_after="Retry-After" in response.headers,
                    engine=engine,
                    detail=str(answer.get("detail", "")),
                )
                return seen, answer
        except TimeoutError:
            return note(HANGS), {}
        except (aiohttp.ClientError, OSError) as error:
            return note(BROKEN, detail=f"{type(error).__name__}: {error}"), {}


async def _listed(client: aiohttp.ClientSession, at: str) -> set[str]:
    """Return the ids of all faces of a collection."""
    found: set[str] = set()
    cursor: str | None = None
    while True:
        query = {"limit": "1000"} | ({"cursor": cursor} if cursor else {})
        async with client.get(f"{at}/faces", params=query) as response:
            response.raise_for_status()
            page = await response.json()
        found |= {face["face_id"] for face in page["faces"]}
        cursor = page["next_cursor"]
        if cursor is None:
            return found
