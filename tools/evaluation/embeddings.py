"""Embeddings of photos from the running gateway, a few at a time."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
import numpy as np
import numpy.typing as npt

from tools.errors import CalibrationError

_AT_ONCE: Final = 4
_TIMEOUT_SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True)
class Embedded:
    """The largest face of each photo, in one space."""

    space: str
    vectors: dict[Path, npt.NDArray[np.float32]]
    without_face: tuple[Path, ...]


def embed_photos(
    url: str, photos: Iterable[Path], *, progress: Callable[[int], None] = lambda _: None
) -> Embedded:
    """Ask the gateway at `url` for each photo once.

    Raises:
        CalibrationError: it is not there, refuses a photo, or changes its weights meanwhile.
    """
    return asyncio.run(_embed(url, list(dict.fromkeys(photos)), progress))


async def _embed(url: str, photos: list[Path], progress: Callable[[int], None]) -> Embedded:
    slots, done = asyncio.Semaphore(_AT_ONCE), 0
    spaces: set[str] = set()
    vectors: dict[Path, npt.NDArray[np.float32]] = {}
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)

    async def ask(session: aiohttp.ClientSession, photo: Path) -> None:
        nonlocal done
        async with slots:
            data = await asyncio.to_thread(photo.read_bytes)
            body = aiohttp.FormData()
            body.add_field("image", data, filename=photo.name)
            async with session.post(f"{url}/api/ml/embed?max_faces=1", data=body) as response:
                answer = await response.json()
        if response.status != 200:
            raise CalibrationError(f"{photo}: {answer.get('detail', response.status)}")
        for face in answer["faces"]:
            spaces.add(answer["models"]["space"])
            vectors[photo] = np.asarray(face["embedding"], np.float32)
        done += 1
        progress(done)

    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, asyncio.TaskGroup() as group:
            for photo in photos:
                group.create_task(ask(session, photo))
    except ExceptionGroup as failures:
        first = failures.exceptions[0]
        if isinstance(first, CalibrationError):
            raise first from None
        raise CalibrationError(f"{url}: {first or type(first).__name__}") from first
    if not spaces:
        raise CalibrationError("none of the photos shows a face")
    if len(spaces) > 1:
        raise CalibrationError("the embedding model was exchanged meanwhile; start again")
    missing = tuple(photo for photo in photos if photo not in vectors)
    return Embedded(spaces.pop(), vectors, missing)
