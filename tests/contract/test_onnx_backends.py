"""Contract of the two `onnxruntime` backends of the wheel's server, each in a real server."""

import re
import shutil
import subprocess
import time

import numpy as np
import pytest
import requests
from tritonclient import grpc as triton
from tritonclient.utils import InferenceServerException

from gateway.settings import CHECKOUT
from tests.support.prerequisites import is_missing
from tests.support.serving import make_settings, shared_installation, wait_until
from tests.support.tiny_graphs import save_look_up, save_no_number, save_twice
from tools.serving.home import Home
from tools.serving.triton_part import TritonPart

pytestmark = pytest.mark.contract

_START_SECONDS = 60
_WAIT_MICROSECONDS = 1_000_000
"""Queue delay of a batch, so that requests sent together run together."""

TWICE = """
backend: "onnxruntime"
max_batch_size: 8
input [ { name: "X" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [
  { name: "Y" data_type: TYPE_FP32 dims: [ -1 ] },
  { name: "ROWS" data_type: TYPE_INT64 dims: [ 1 ] }
]
parameters { key: "intra_op_thread_count" value: { string_value: "1" } }
"""
ALONE = (
    TWICE.replace("max_batch_size: 8", "max_batch_size: 0")
    .replace("dims: [ -1 ]", "dims: [ -1, -1 ]")
    .replace("dims: [ 1 ]", "dims: [ -1, 1 ]")
)
LOOK_UP = """
backend: "onnxruntime"
max_batch_size: 8
input [ { name: "X" data_type: TYPE_INT64 dims: [ 1 ] } ]
output [ { name: "Y" data_type: TYPE_FP32 dims: [ 1 ] } ]
"""
BATCHING = f"dynamic_batching {{ max_queue_delay_microseconds: {_WAIT_MICROSECONDS} }}\n"
TWO_ROWS = 'parameters { key: "rows_per_run" value: { string_value: "2" } }\n'


def add(repository, name: str, config: str, write) -> None:
    version = repository / name / "1"
    version.mkdir(parents=True)
    (repository / name / "config.pbtxt").write_text(f'name: "{name}"\n{config}')
    write(version / "model.onnx")


@pytest.fixture(scope="module", params=["python", "compiled"])
def server(request, tmp_path_factory):
    """Start a server with small networks; return its client."""
    if request.param == "compiled" and not any(map(shutil.which, ("c++", "g++", "clang++"))):
        is_missing("no C++ compiler is installed (on Debian: g++)")
    folder = tmp_path_factory.mktemp(request.param)
    repository = folder / "repository"
    add(repository, "twice", TWICE + BATCHING, save_twice)
    add(repository, "two_rows", TWICE + BATCHING + TWO_ROWS, save_twice)
    add(repository, "alone", ALONE, save_twice)
    add(repository, "look_up", LOOK_UP + BATCHING, save_look_up)
    add(repository, "mismatch", TWICE.replace("TYPE_INT64", "TYPE_INT32"), save_twice)
    add(repository, "garbage", TWICE, lambda path: path.write_bytes(b"no network"))
    embedding = (CHECKOUT / "model_repository" / "face_embedding" / "config.pbtxt").read_text()
    add(repository, "face_embedding", embedding.split("\n", 1)[1], save_no_number)
    settings = make_settings(folder, repository, onnx_backend=request.param)
    part = TritonPart(settings, Home(settings.home), shared_installation())
    part.prepare()
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            part.command(), env=dict(part.environment()), stdout=log, stderr=subprocess.STDOUT
        )
    try:
        address = f"http://127.0.0.1:{settings.triton_http_port}/v2"
        assert wait_until(lambda: is_up(address), timeout_seconds=_START_SECONDS), log_of(folder)
        yield Server(f"127.0.0.1:{settings.triton_grpc_port}")
    finally:
        process.terminate()
        process.wait(_START_SECONDS)


def log_of(folder) -> str:
    return (folder / "log").read_text()[-2000:]


def is_up(address: str) -> bool:
    try:
        return requests.get(f"{address}/health/live", timeout=1).ok
    except requests.RequestException:
        return False


class Server:
    def __init__(self, address: str) -> None:
        self.client = triton.InferenceServerClient(address)

    def ask(self, model: str, rows, *, outputs=None):
        """Send a request; return a function that waits for its answer."""
        given = triton.InferInput(
            "X", list(rows.shape), {"f": "FP32", "i": "INT64"}[rows.dtype.kind]
        )
        given.set_data_from_numpy(rows)
        wanted = [triton.InferRequestedOutput(name) for name in outputs] if outputs else None
        answers = []
        self.client.async_infer(
            model, [given], lambda result, error: answers.append(error or result), outputs=wanted
        )

        def wait():
            deadline = time.monotonic() + _START_SECONDS
            while not answers and time.monotonic() < deadline:
                time.sleep(0.01)
            if isinstance(answers[0], Exception):
                raise answers[0]
            return answers[0]

        return wait

    def reason(self, model: str) -> str:
        """Return the server's reason for not serving the model."""
        index = self.client.get_model_repository_index().models
        return next(each.reason for each in index if each.name == model)

    def runs(self, model: str) -> tuple[int, int]:
        """Requests' rows answered so far, and runs that it took."""
        (stats,) = self.client.get_inference_statistics(model).model_stats
        return stats.inference_count, stats.execution_count


def floats(*values: float, width: int = 2) -> np.ndarray:
    return np.repeat(np.array(values, np.float32)[:, None], width, axis=1)


def column(answer, name: str) -> list[float]:
    return answer.as_numpy(name)[:, 0].tolist()


def test_waiting_requests_run_in_one_batch_and_are_split_again(server):
    rows, runs = server.runs("twice")
    waits = [server.ask("twice", floats(1, 2)), server.ask("twice", floats(3))]
    first, second = (wait() for wait in waits)
    assert first.as_numpy("Y").tolist() == [[2, 2], [4, 4]]
    assert column(second, "Y") == [6]
    assert column(first, "ROWS") == [3, 3]
    assert column(second, "ROWS") == [3]
    assert server.runs("twice") == (rows + 3, runs + 1)
    (stats,) = server.client.get_inference_statistics("twice").model_stats
    assert 3 in [batch.batch_size for batch in stats.batch_stats]


def test_no_run_exceeds_the_configured_rows(server):
    waits = [server.ask("two_rows", floats(*rows)) for rows in ((1,), (2, 3), (4, 5, 6))]
    first, second, third = (wait() for wait in waits)
    assert [column(each, "Y") for each in (first, second, third)] == [[2], [4, 6], [8, 10, 12]]
    assert column(first, "ROWS") == [1]
    assert column(second, "ROWS") == [2, 2]
    assert column(third, "ROWS") == [2, 2, 1]


def test_without_batching_each_request_runs_alone(server):
    waits = [server.ask("alone", floats(1)), server.ask("alone", floats(2, 3))]
    assert [column(wait(), "ROWS") for wait in waits] == [[1], [2, 2]]


def test_only_requested_outputs_are_answered(server):
    waits = [server.ask("twice", floats(1), outputs=[name]) for name in ("Y", "ROWS")]
    only_y, only_rows = (wait() for wait in waits)
    assert only_y.as_numpy("ROWS") is None
    assert column(only_y, "Y") == [2]
    assert only_rows.as_numpy("Y") is None
    assert column(only_rows, "ROWS") == [2]


def test_a_bad_request_fails_alone(server):
    asked = [[1], [7], [2]]
    waits = [server.ask("look_up", np.array([each], np.int64)) for each in asked]
    first, bad, last = waits
    assert column(first(), "Y") == [11]
    with pytest.raises(InferenceServerException, match="out of data bounds"):
        bad()
    assert column(last(), "Y") == [12]
    assert server.runs("look_up")[1] >= 1


def test_simultaneous_requests_get_their_own_answers(server):
    waits = [server.ask("twice", floats(*range(n, n + 1 + n % 4))) for n in range(60)]
    for n, wait in enumerate(waits):
        assert column(wait(), "Y") == [2 * each for each in range(n, n + 1 + n % 4)]


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (
            "mismatch",
            r"ConfigMismatchError: ROWS is tensor\(int64\) in the graph, TYPE_INT32",
        ),
        ("garbage", "InvalidProtobuf: .*Protobuf parsing failed"),
        ("face_embedding", "SelfTestError: EMBEDDING holds values that are not finite"),
    ],
)
def test_broken_versions_are_not_served_and_the_server_states_the_reason(server, model, why):
    assert not server.client.is_model_ready(model)
    reasons = []
    # each poll tries the version again, and meanwhile there is no reason
    assert wait_until(lambda: reasons.append(server.reason(model)) or bool(reasons[-1]))
    assert re.match(f"Internal: {why}", reasons[-1]), reasons[-1]
