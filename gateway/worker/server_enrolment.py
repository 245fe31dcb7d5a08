"""Enrolment by a worker process: the vectors lie in a Qdrant server, opened at the first image."""

import asyncio
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from gateway.collections.base import Stores
from gateway.collections.factory import make_collections, metered, open_vectors
from gateway.collections.intake import Intake
from gateway.inference.embedder import TritonEmbedder
from gateway.pipeline import Pipeline
from gateway.tls_files import files_for_triton
from gateway.worker.enrolment import EnrolFaces, Enroller
from gateway.worker.factory import Surroundings


class ServerEnrolment:
    """Opens what enrolling needs once it is needed, and closes it at the end of the block.

    The gateways alone repair collections and delete expired faces.
    """

    def __init__(self, around: Surroundings, pipeline: Pipeline) -> None:
        self._around = around
        self._pipeline = pipeline
        self._opening = asyncio.Lock()
        self._enroller: Enroller | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    def operation(self) -> EnrolFaces:
        """Return the operation of jobs."""
        return EnrolFaces(self._open)

    async def probe(self) -> None:
        """Return if vectors and records answer; raises StorageUnavailableError otherwise."""
        await self._around.records.health()
        enroller = await self._open()
        await enroller.collections.stores.vectors.health()

    async def _open(self) -> Enroller:
        async with self._opening:
            if self._enroller is None:
                self._enroller = await self._make()
            return self._enroller

    async def _make(self) -> Enroller:
        around = self._around
        vectors = await open_vectors(around.settings, around.metrics.parts)
        self._stack.push_async_callback(vectors.close)
        await self._stack.enter_async_context(
            around.background.running("presence", around.records.presence.keep_up)
        )
        settings = around.settings
        embedder = TritonEmbedder(settings.triton_address, files=files_for_triton(settings))
        self._stack.push_async_callback(embedder.close)
        collections = make_collections(
            around.settings,
            metered(Stores(vectors, around.records), around.metrics.parts),
            embedder,
            around.background,
        )
        return Enroller(collections, Intake(self._pipeline, collections))
