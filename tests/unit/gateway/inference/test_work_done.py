"""Triton's statistics, summed up."""

from tritonclient.grpc import service_pb2

from gateway.inference.work_done import WorkDone, sum_up
from triton_python_backend.contract import DETECTION, PIPELINE, UNSCORED, candidate_of


def model(name: str, *, ok: int = 0, failed: int = 0, queued: int = 0, computed: int = 0):
    made = service_pb2.ModelStatistics(name=name, version="1")
    made.inference_stats.success.count = ok
    made.inference_stats.fail.count = failed
    made.inference_stats.queue.ns = queued
    made.inference_stats.compute_infer.ns = computed
    return made


def test_images_are_those_of_the_ensembles_and_times_those_of_the_networks():
    found = sum_up(
        [
            model(PIPELINE.name, ok=5, failed=1, queued=10**9, computed=10**9),
            model(UNSCORED.name, ok=2),
            model(candidate_of(PIPELINE.name), ok=1),
            model(DETECTION.name, ok=9, queued=2 * 10**9, computed=3 * 10**9),
            model(candidate_of(DETECTION.name), queued=10**9),
            model("face_preprocess", ok=9, queued=10**9),
        ]
    )
    assert found == WorkDone(images=9, queued_seconds=3.0, computed_seconds=3.0)
