"""The worker within the gateway: it enrols, where the vectors belong to the gateway's process."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from gateway.checkout import name_in_home
from gateway.collections.intake import Intake
from gateway.collections.service import Collections
from gateway.settings import Settings
from gateway.worker.counted import CountedInference, JobInference
from gateway.worker.enrolment import EnrolFaces, Enroller
from gateway.worker.factory import Surroundings, make_pipeline, make_worker
from gateway.worker.upstream import Insistence

_ROLE = "gateway"


@asynccontextmanager
async def run_enrol_worker(
    around: Surroundings,
    collections: Collections,
    open_engine: Callable[[Settings], Awaitable[JobInference]],
) -> AsyncIterator[None]:
    """Enrol the images of jobs until the end of the block.

    Only with Qdrant Edge, which one process can use; with a Qdrant server any worker enrols.
    """
    if around.settings.qdrant_url is not None:
        yield
        return
    engine = await open_engine(around.settings)
    try:
        counted = CountedInference(engine)
        # each image is enrolled once: its answer need not be cached
        intake = Intake(make_pipeline(around, counted, cache=None), collections)
        enroller = Enroller(collections, intake)

        async def ready() -> Enroller:
            return enroller

        worker = make_worker(
            around,
            engine,
            counted,
            {"enrol": EnrolFaces(ready)},
            name=name_in_home(around.settings.home, _ROLE),
            insistence=Insistence(),
            probe_collections=collections.stores.vectors.health,
        )
        async with around.background.running("enrol-worker", worker.run):
            yield
    finally:
        await engine.close()
