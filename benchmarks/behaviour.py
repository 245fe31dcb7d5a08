"""Measure one gateway: cached answers, overload, its own cost, the networks' share of the time.

    python -m benchmarks.behaviour --models ../shared/models [--seconds 60 --rounds 5]

Starts a stack of its own and writes `benchmarks/results/behaviour.json`. The clients run on the
same cores, so each figure includes the cost of the callers.
"""

import json
import os
import statistics
import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import psutil
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from tritonclient import grpc as triton

from benchmarks.support.load import Answered, closed, open_loop, run, saturated
from benchmarks.support.photos import one_face
from benchmarks.support.served import CHECKOUT, Served, served
from triton_python_backend import alignment, contract, decoding, preprocess
from triton_python_backend.detection import Detections
from triton_python_backend.onnx_session import Call, OnnxSession

CALLERS: Final = 8
CACHED_RATE: Final = 500


def cached(stack: Served, image: bytes, *, seconds: float) -> dict[str, Any]:
    """Measure cached answers of one gateway process: the maximum, then a steady rate."""
    url = f"{stack.url}/api/ml/embed"
    run(closed(url, image, callers=CALLERS, count=500))
    most = run(closed(url, image, callers=CALLERS, count=int(seconds * 800)))
    steady = run(open_loop(url, image, rate=CACHED_RATE, seconds=seconds))
    return {
        "answers_per_second": most.rate(),
        "steady_rate": CACHED_RATE,
        "steady_p50_ms": steady.percentile(0.5),
        "steady_p99_ms": steady.percentile(0.99),
        "statuses": _statuses(steady),
    }


def overload(stack: Served, image: bytes, *, seconds: float, rounds: int) -> dict[str, Any]:
    """Send three times as many requests as the capacity, and measure the outcomes.

    Each round measures the capacity first, because the machine changes within minutes.
    """
    url = f"{stack.url}/api/ml/embed"
    run(closed(url, image, callers=CALLERS, count=40))
    process = psutil.Process(stack.gateway_pid)
    memory, floods, capacities = [_mebibytes(process)], [], []
    for _ in track(range(rounds), "overload"):
        capacities.append(run(saturated(url, image, callers=CALLERS, seconds=seconds / 5)))
        floods.append(run(open_loop(url, image, rate=3 * capacities[-1], seconds=seconds)))
        memory.append(_mebibytes(process))
    shares = [flood.rate() / most for flood, most in zip(floods, capacities, strict=True)]
    return {
        "capacity_per_second": statistics.median(capacities),
        "offered_over_capacity": 3,
        "goodput_over_capacity": statistics.median(shares),
        "goodput_over_capacity_by_round": shares,
        "statuses": _statuses(*floods),
        "refused_p50_ms": statistics.median(flood.percentile(0.5, 503) for flood in floods),
        "refused_p99_ms": statistics.median(flood.percentile(0.99, 503) for flood in floods),
        "served_p50_ms": statistics.median(flood.percentile(0.5) for flood in floods),
        "served_p99_ms": statistics.median(flood.percentile(0.99) for flood in floods),
        "gateway_memory_mib_before_and_after_each": memory,
    }


def overhead(stack: Served, image: bytes, *, count: int) -> dict[str, Any]:
    """Measure the gateway's processor time per request, minus that of a direct call to Triton."""
    url = f"{stack.url}/api/ml/embed"
    run(closed(url, image, callers=2, count=20))
    process = psutil.Process(stack.gateway_pid)
    gateway = _cpu(process, lambda: run(closed(url, image, callers=2, count=count)))
    client = triton.InferenceServerClient(stack.grpc)
    tensor = triton.InferInput(contract.IMAGE, [1], "BYTES")
    tensor.set_data_from_numpy(np.array([image], dtype=np.object_))
    wanted = (contract.BOXES, contract.LANDMARKS, contract.CONFIDENCE, contract.QUALITY)
    names = [*wanted, contract.EMBEDDING, contract.SPACE]
    outputs = [triton.InferRequestedOutput(name) for name in names]

    def direct() -> None:
        for _ in range(count):
            client.infer(contract.PIPELINE.name, [tensor], outputs=outputs)

    direct()
    called = _cpu(psutil.Process(), direct)
    return {
        "gateway_cpu_ms": gateway / count * 1000,
        "direct_call_cpu_ms": called / count * 1000,
        "overhead_cpu_ms": (gateway - called) / count * 1000,
    }


def networks(stack: Served, image: bytes, *, count: int) -> dict[str, Any]:
    """Measure the networks alone on the same inputs; their share of all cores' time."""
    detector, embedder = (_session(stack, stage) for stage in _NETWORKS)
    picture = decoding.decode_reduced(image)
    frame, letterbox = preprocess.make_frame(picture)
    canvas = {contract.CANVAS: frame[None]}
    answer = _run(detector, canvas, contract.DETECTION)
    rows = (answer[tensor.name][0] for tensor in contract.DETECTION.outputs[:3])
    faces = Detections(*rows).seen().to_image(letterbox, width=800, height=600)
    crops = {contract.CROPS: alignment.align(picture.pixels, faces.landmarks)}
    times = {
        "detection_ms": _median(lambda: _run(detector, canvas, contract.DETECTION)),
        "embedding_ms": _median(lambda: _run(embedder, crops, contract.EMBEDDING_STAGE)),
    }
    url = f"{stack.url}/api/ml/embed"
    rate = run(closed(url, image, callers=CALLERS, count=count)).rate()
    share = rate * sum(times.values()) / 1000 / (os.cpu_count() or 1)
    return {**times, "answers_per_second": rate, "share_of_all_cores": share}


_NETWORKS: Final = (contract.DETECTION, contract.EMBEDDING_STAGE)


def _session(stack: Served, stage: contract.Stage) -> OnnxSession:
    one_thread = {"intra_op_thread_count": {"string_value": "1"}}
    config = {
        "max_batch_size": stage.max_batch_size,
        "parameters": one_thread,
        "input": [_entry(tensor) for tensor in stage.inputs],
        "output": [_entry(tensor) for tensor in stage.outputs],
    }
    return OnnxSession(config, stack.repository / stage.name / "2" / "model.onnx")


def _entry(tensor: contract.Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "data_type": f"TYPE_{tensor.dtype}", "dims": tensor.dims}


def _run(session: OnnxSession, given: dict[str, Any], stage: contract.Stage) -> dict[str, Any]:
    answer = session.run([Call(given, [tensor.name for tensor in stage.outputs])])[0]
    if isinstance(answer, Exception):
        raise answer
    return answer


def _median(call: Any, times: int = 30) -> float:
    seconds = []
    for number in range(times + 5):
        started = time.perf_counter()
        call()
        if number >= 5:
            seconds.append(time.perf_counter() - started)
    return statistics.median(seconds) * 1000


def _mebibytes(process: psutil.Process) -> float:
    return float(process.memory_info().rss / 2**20)


def _cpu(process: psutil.Process, work: Any) -> float:
    before = process.cpu_times()
    work()
    after = process.cpu_times()
    return float(after.user + after.system - before.user - before.system)


def _statuses(*answered: Answered) -> dict[str, int]:
    counts = sum((each.counts for each in answered), Counter[int]())
    return {str(status): count for status, count in sorted(counts.items())}


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main(
    models: Annotated[Path, typer.Option(exists=True, help="Folder of the networks.")],
    seconds: Annotated[float, typer.Option(help="Duration of each overload.")] = 60.0,
    rounds: Annotated[int, typer.Option(help="Number of overloads.")] = 5,
    out: Path = CHECKOUT / "benchmarks" / "results" / "behaviour.json",
) -> None:
    """Measure, write the JSON and print a table."""
    image, report = one_face(), {}
    with served(models, AURUM_CACHE="on", AURUM_LOG_LEVEL="warning") as stack:
        report["cached"] = cached(stack, image, seconds=min(seconds, 10))
    with served(models, AURUM_CACHE="off", AURUM_LOG_LEVEL="warning") as stack:
        report["overhead"] = overhead(stack, image, count=200)
        report["networks"] = networks(stack, image, count=300)
        report["overload"] = overload(stack, image, seconds=seconds, rounds=rounds)
    table = Table("what", "figure", "value")
    for what, figures in report.items():
        for name, value in figures.items():
            table.add_row(what, name, _shown(value))
    Console().print(table)
    load = [round(value, 1) for value in os.getloadavg()]
    report["machine"] = {"cores": os.cpu_count(), "load_average_at_the_end": load}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
