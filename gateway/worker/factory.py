"""Makes workers: one of a process of its own, one within the gateway."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway.api.faces.answer import FaceAnswers
from gateway.cache.analyses import AnalysisCache
from gateway.concurrency import AdmissionControl, BackgroundTasks, CpuPool, SlowGate
from gateway.deadline import Deadline
from gateway.errors import InferenceUnavailableError
from gateway.images import ImageLimits
from gateway.inference.triton import TritonInference
from gateway.jobs.objects.base import ObjectStore
from gateway.pipeline import Pipeline
from gateway.records.encryption import DataCipher
from gateway.records.job_types import Operation
from gateway.records.store import RecordStore
from gateway.settings import Settings
from gateway.telemetry.metrics import Metrics
from gateway.tls_files import files_for_triton
from gateway.worker.counted import CountedInference, JobInference
from gateway.worker.item_run import ItemRunner
from gateway.worker.lane import Lane, LaneOptions
from gateway.worker.operations import AnswerFaces, ItemOperation
from gateway.worker.share import SharingInference
from gateway.worker.state import Upstreams, WorkerState
from gateway.worker.upstream import Insistence, Upstream
from gateway.worker.worker import Heartbeat, Worker
from triton_python_backend.contract import JOB_PRIORITY

_PROBE_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a worker uses of the process that it runs in."""

    settings: Settings
    records: RecordStore
    objects: ObjectStore
    cipher: DataCipher
    metrics: Metrics
    cpu_pool: CpuPool
    background: BackgroundTasks


async def open_job_inference(settings: Settings) -> JobInference:
    """Open a client of the ensembles whose requests are answered after those of callers.

    While callers take all of Triton, it asks as one of them from time to time.
    """
    address, files = settings.triton_address, files_for_triton(settings)
    return SharingInference(
        TritonInference(address, priority=JOB_PRIORITY, files=files),
        TritonInference(address, files=files),
    )


def make_pipeline(
    around: Surroundings, inference: CountedInference, cache: AnalysisCache | None
) -> Pipeline:
    """Make a pipeline with the limits and the cache of the gateway, and a queue of its own.

    It uses the active versions only: a canary is for callers.
    """
    settings = around.settings
    admission = AdmissionControl(settings.max_in_flight)
    return Pipeline(
        inference,
        limits=ImageLimits(settings.max_image_bytes, settings.max_image_megapixels),
        admission=admission,
        slow=SlowGate(admission, at_once=settings.max_slow_at_once),
        cpu_pool=around.cpu_pool,
        metrics=around.metrics,
        cache=cache,
        max_faces=settings.max_faces,
    )


def face_operations(around: Surroundings, pipeline: Pipeline) -> dict[Operation, ItemOperation]:
    """Make the operations that only read images."""
    answers = FaceAnswers(pipeline, around.cpu_pool, scoring=around.settings.scoring == "on")
    return {name: AnswerFaces(answers, name) for name in ("score", "detect", "embed")}


def make_worker(
    around: Surroundings,
    engine: JobInference,
    counted: CountedInference,
    operations: dict[Operation, ItemOperation],
    *,
    name: str,
    insistence: Insistence,
    probe_collections: Callable[[], Awaitable[object]],
) -> Worker:
    """Put a worker together.

    engine: the client of Triton behind `counted`. probe_collections: returns if vectors and records
    answer.
    """
    settings = around.settings
    upstreams = Upstreams(
        triton=Upstream("Triton", lambda: _probe(engine), around.background),
        images=Upstream("the object store", around.objects.health, around.background),
        collections=Upstream("the vector store", probe_collections, around.background),
    )
    state = WorkerState(name, tuple(operations), upstreams)
    runner = ItemRunner(
        operations,
        around.objects,
        around.cipher,
        state,
        attempts=settings.job_attempts,
        request_timeout_seconds=settings.request_timeout_seconds,
    )
    options = LaneOptions(
        slice_images=settings.job_slice_images,
        lease_seconds=settings.job_lease_seconds,
        attempts=settings.job_attempts,
    )
    return Worker(
        state,
        Lane(options, around.records, around.objects, runner, state, insistence),
        Heartbeat(state, around.records.job_queue, lambda: counted.images),
        insistence,
        most=settings.worker_concurrency,
        read_work_done=lambda deadline: engine.work_done(deadline=deadline),
        own_images=lambda: counted.images,
    )


async def _probe(engine: JobInference) -> None:
    status = await engine.status(deadline=Deadline.after(_PROBE_SECONDS))
    if not status.ready:
        away = [stage.name for stage in status.stages if not stage.ready]
        detail = f"not ready: {', '.join(away)}" if away else status.detail
        raise InferenceUnavailableError(detail)
