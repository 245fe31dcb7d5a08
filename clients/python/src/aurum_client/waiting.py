"""What waits: sending, sleeping, many images at once. Each in two forms, `async_x` and `x`.

The clients in `_async` use the first form; `generate_sync.py` replaces it by the second.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Callable, Generic, Optional, TypeVar

import httpx

from aurum_client.errors import AurumError, TimeLimitError
from aurum_client.images import ImageSource, Picture, read_picture
from aurum_client.limits import Deadline
from aurum_client.results.faces import FacesResult
from aurum_client.uploads import Upload

T = TypeVar("T")
Source = TypeVar("Source", bound=ImageSource)
_AHEAD = 4
"""Results that may wait for an earlier one, as a multiple of the concurrency."""


@dataclass(frozen=True)
class Outcome(Generic[Source]):
    """What became of one image of many: a result, or the error."""

    index: int
    """Position of the image among those given, from 0."""
    image: Source
    result: Optional[FacesResult]
    error: Optional[Exception]
    """`AurumError`, or OSError if the file could not be read."""


async def async_exchange(
    http: httpx.AsyncClient, request: httpx.Request, deadline: Deadline
) -> httpx.Response:
    """Send a request and read the whole answer; raises TimeLimitError at the deadline."""
    try:
        return await asyncio.wait_for(http.send(request), deadline.remaining())
    except asyncio.TimeoutError as error:
        raise TimeLimitError("total") from error


def exchange(http: httpx.Client, request: httpx.Request, deadline: Deadline) -> httpx.Response:
    """Send a request and read the whole answer; raises TimeLimitError at the deadline.

    The deadline is looked at after each part of the answer. A service that sends its headers byte
    by byte can exceed it.
    """
    response = http.send(request, stream=True)
    try:
        # the transport reads it when it starts with the body
        request.extensions["timeout"]["read"] = min(
            request.extensions["timeout"]["read"], deadline.remaining()
        )
        parts = []
        for part in response.iter_bytes():
            parts.append(part)
            deadline.remaining()
    finally:
        response.close()
    # what was read is decoded, and whole
    headers = {
        name: value
        for name, value in response.headers.items()
        if name not in ("content-encoding", "content-length", "transfer-encoding")
    }
    return httpx.Response(
        response.status_code, headers=headers, content=b"".join(parts), request=request
    )


async def async_sleep(seconds: float) -> None:
    """Pause."""
    await asyncio.sleep(seconds)


def sleep(seconds: float) -> None:
    """Pause."""
    time.sleep(seconds)


async def async_call(work: Callable[[], T], deadline: Deadline) -> T:
    """Run work that blocks; raises TimeLimitError at the deadline, while the work goes on."""
    loop = asyncio.get_running_loop()
    try:
        return await asyncio.wait_for(loop.run_in_executor(None, work), deadline.remaining())
    except asyncio.TimeoutError as error:
        raise TimeLimitError("total") from error


def call(work: Callable[[], T], deadline: Deadline) -> T:
    """Run work that blocks; raises TimeLimitError if it would begin after the deadline."""
    deadline.remaining()
    return work()


async def async_read(source: ImageSource, deadline: Deadline) -> Picture:
    """Read an image; a file is read in a thread."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return read_picture(source)
    return await async_call(partial(read_picture, source), deadline)


def read(source: ImageSource, deadline: Deadline) -> Picture:
    """Read an image."""
    return call(partial(read_picture, source), deadline)


async def async_chunks(upload: Upload) -> AsyncIterator[bytes]:
    """Read an upload in threads."""
    loop = asyncio.get_running_loop()
    chunks = upload.chunks()
    while (chunk := await loop.run_in_executor(None, next, chunks, None)) is not None:
        yield chunk


def chunks(upload: Upload) -> Iterator[bytes]:
    """Read an upload."""
    return upload.chunks()


async def async_map_images(
    analyse: Callable[[ImageSource], Awaitable[FacesResult]],
    images: Iterable[Source],
    concurrency: int,
) -> AsyncIterator[Outcome[Source]]:
    """Analyse images, so many at once; yields in their order, each as soon as it can."""
    free = asyncio.Semaphore(_checked(concurrency))

    async def run(index: int, image: Source) -> Outcome[Source]:
        async with free:
            try:
                return Outcome(index, image, await analyse(image), None)
            except (AurumError, OSError) as error:
                return Outcome(index, image, None, error)

    waiting: deque[asyncio.Task[Outcome[Source]]] = deque()
    try:
        for index, image in enumerate(images):
            waiting.append(asyncio.ensure_future(run(index, image)))
            if len(waiting) >= _AHEAD * concurrency:
                yield await waiting[0]
                waiting.popleft()
            else:
                # what can start, starts before the next image is made
                await asyncio.sleep(0)
            while waiting and waiting[0].done():
                yield await waiting.popleft()
        while waiting:
            yield await waiting[0]
            waiting.popleft()
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


def map_images(
    analyse: Callable[[ImageSource], FacesResult],
    images: Iterable[Source],
    concurrency: int,
) -> Iterator[Outcome[Source]]:
    """Analyse images, so many at once; yields in their order, each as soon as it can."""

    def run(index: int, image: Source) -> Outcome[Source]:
        try:
            return Outcome(index, image, analyse(image), None)
        except (AurumError, OSError) as error:
            return Outcome(index, image, None, error)

    waiting: deque[Future[Outcome[Source]]] = deque()
    with ThreadPoolExecutor(_checked(concurrency), thread_name_prefix="aurum-client") as pool:
        try:
            for index, image in enumerate(images):
                waiting.append(pool.submit(run, index, image))
                if len(waiting) >= _AHEAD * concurrency:
                    yield waiting.popleft().result()
                while waiting and waiting[0].done():
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _checked(concurrency: int) -> int:
    if concurrency < 1:
        raise ValueError("concurrency is at least 1")
    return concurrency
