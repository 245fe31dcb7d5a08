"""Fetches the images that a request names by their URLs."""

import asyncio
from dataclasses import replace
from typing import Any, Final

from gateway.api.body import BodySpec, RemoteImage, most_bytes
from gateway.api.call import Call
from gateway.api.receiving import RECEIVING
from gateway.collections.image_analysis import NamedImage
from gateway.concurrency import run_together
from gateway.errors import (
    ImageTooLargeError,
    ImageUrlFailedError,
    ImageUrlRefusedError,
    UnsupportedMediaTypeError,
)
from gateway.images import too_many_bytes
from gateway.outbound.memory import Held
from gateway.outbound.urls import name_of_url

_AT_ONCE: Final = 4
"""Images of one request that are fetched at a time."""
_MAX_NAME: Final = 200
_OF_ONE_IMAGE: Final = (
    ImageTooLargeError,
    ImageUrlFailedError,
    ImageUrlRefusedError,
    UnsupportedMediaTypeError,
)


async def with_fetched_images(call: Call[Any, Any], spec: BodySpec) -> Call[Any, Any]:
    """Return the request with all its images, within its deadline.

    Of a request with many images, one that cannot be had takes its error along and does not stop
    the others. Raises what `ImageFetcher.fetch` raises, and ImageTooLargeError for all together.
    """
    if not any(isinstance(each, RemoteImage) for each in call.body.sources):
        return call
    slots = asyncio.Semaphore(_AT_ONCE)
    receiving = call.request.app[RECEIVING]
    memories: list[Held] = []
    limit = most_bytes(call.services.settings, spec)
    held = sum(len(image.data) for image in call.body.images)

    async def fetch(source: NamedImage | RemoteImage) -> NamedImage:
        nonlocal held
        if isinstance(source, NamedImage):
            return source
        async with slots:
            memory = Held(receiving)
            memories.append(memory)
            image = await _fetch(call, source, memory, alone=spec.images != "many")
        held += len(image.data)
        if held > limit:
            raise ImageTooLargeError(too_many_bytes(limit))
        return image

    try:
        images = await run_together(fetch(source) for source in call.body.sources)
    finally:
        # as those of a body that is complete
        for memory in memories:
            memory.release()
    return replace(call, body=replace(call.body, sources=tuple(images)))


async def _fetch(
    call: Call[Any, Any], source: RemoteImage, memory: Held, *, alone: bool
) -> NamedImage:
    name = (name_of_url(source.url) or "")[-_MAX_NAME:] or None
    try:
        data = await call.services.fetcher.fetch(
            source.url,
            tenant=call.caller.tenant,
            seconds=call.deadline.remaining_seconds(),
            memory=memory,
        )
    except _OF_ONE_IMAGE as error:
        if alone:
            raise
        # a copy: what it was raised from refers to connections
        return NamedImage(b"", name, failure=type(error)(error.detail))
    return NamedImage(data, name)
