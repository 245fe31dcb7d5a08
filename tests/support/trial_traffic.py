"""Traffic for a version on trial: every answer is held against the version that it names."""

import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import requests
from onnx import TensorProto, helper, numpy_helper

from tests.support.photos import PORTRAIT
from tests.support.serving import Served
from tests.support.swapping import PAUSE_SECONDS, SAME, clients

_CLIENTS = 2
_DARK = -0.4
"""Mean of a crop, -1 to 1, below which the network of `write_breaking_network` fails."""


@dataclass(frozen=True)
class Answered:
    """One answer: the request's id, the version of the stage it names, when it was sent."""

    request_id: str
    version: str
    at: float


@dataclass
class Seen:
    """All answers, and what was wrong with any."""

    stage: str
    answers: list[Answered] = field(default_factory=list)
    first: dict[str, tuple[str, npt.NDArray[Any], list[float]]] = field(default_factory=dict)
    """Of each version's first answer: space, embedding, box."""
    wrong: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, request_id: str, at: float, response: requests.Response) -> None:
        """Hold an answer against the first of the version that it names."""
        if response.status_code != 200:
            self.fail(f"{request_id}: {response.text}")
            return
        body = response.json()
        models, face = body["models"], body["faces"][0]
        version = models[self.stage]
        embedding = np.asarray(face["embedding"], np.float32)
        found = (models["space"], embedding, face["box"])
        with self._lock:
            self.answers.append(Answered(request_id, version, at))
            space, known, box = self.first.setdefault(version, found)
        if models["space"] != space or known.shape != embedding.shape:
            self.fail(f"{request_id}: {version} answered in {models['space']}, not {space}")
        elif not float(known @ embedding) >= SAME or not np.allclose(box, face["box"], atol=1):
            self.fail(f"{request_id}: {version} answered something else than before")
        elif response.headers["X-Request-ID"] != request_id:
            self.fail(f"{request_id}: another request's answer")

    def fail(self, text: str) -> None:
        with self._lock:
            self.wrong.append(text)

    def since(self, at: float, *, seconds: float = 0, answers: int = 0) -> list[Answered]:
        """Answers to requests that were sent after a moment, once there are enough of them."""
        deadline = time.monotonic() + 120
        while True:
            found = [each for each in list(self.answers) if each.at > at]
            if len(found) >= answers and time.monotonic() > at + seconds:
                return found
            if time.monotonic() > deadline:
                message = f"{len(found)} answers: {self.wrong[:3]}"
                raise TimeoutError(message)
            time.sleep(0.05)

    def wait_for(self, version: str) -> float:
        """Wait until all answers of a second name one version; the seconds that took."""
        started = time.monotonic()
        while time.monotonic() - started < 120:
            versions = {each.version for each in self.since(time.monotonic(), answers=6)}
            if versions == {version}:
                return time.monotonic() - started
        message = f"{Counter(each.version for each in self.answers)}: {self.wrong[:3]}"
        raise TimeoutError(message)


@contextmanager
def trial_traffic(served: Served, stage: str, *, photo: bytes | None = None) -> Iterator[Seen]:
    """Have a few clients ask for embeddings all the time, each request with an id of its own."""
    seen = Seen(stage)
    ask = partial(_ask, served, seen, photo or PORTRAIT.read_bytes())
    with clients(*[ask] * _CLIENTS):
        yield seen


def _ask(served: Served, seen: Seen, data: bytes, stop: threading.Event) -> None:
    with requests.Session() as session:
        while not stop.wait(PAUSE_SECONDS):
            request_id, at = uuid.uuid4().hex, time.monotonic()
            try:
                response = session.post(
                    f"{served.url}/api/ml/embed",
                    files={"image": ("x", data)},
                    headers={"X-Request-ID": request_id},
                    timeout=60,
                )
            except requests.RequestException as error:
                seen.fail(f"{request_id}: {error}")
                continue
            seen.note(request_id, at, response)


def dark_portrait() -> bytes:
    """The portrait, so dark that a network of `write_breaking_network` fails on it."""
    pixels = cv2.imread(str(PORTRAIT))
    return cv2.imencode(".png", (pixels * 0.3).astype(np.uint8))[1].tobytes()


def write_breaking_network(source: Path, target: Path) -> Path:
    """Make an ArcFace network that works, but for dark faces, where its embedding is NaN."""
    model = onnx.load(source)
    graph = model.graph
    pixels, made = graph.input[0].name, graph.output[0].name
    constants: dict[str, npt.NDArray[Any]] = {
        "dark": np.array(_DARK, np.float32),
        "nan": np.array(np.nan, np.float32),
        "row": np.array([-1, 1], np.int64),
    }
    graph.initializer.extend(numpy_helper.from_array(each, n) for n, each in constants.items())
    graph.node.extend(
        [
            helper.make_node("ReduceMean", [pixels], ["mean"], axes=[1, 2, 3], keepdims=0),
            helper.make_node("Reshape", ["mean", "row"], ["means"]),
            helper.make_node("Less", ["means", "dark"], ["is_dark"]),
            helper.make_node("Where", ["is_dark", "nan", made], ["breaking"]),
        ]
    )
    shape = [each.dim_value or "batch" for each in graph.output[0].type.tensor_type.shape.dim]
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("breaking", TensorProto.FLOAT, shape))
    onnx.save(model, target)
    return target
