"""Traffic that checks every answer against the weights it names, while versions come and go."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import requests
import tritonclient.grpc
from onnx import numpy_helper

from tests.support import photos
from tests.support.serving import Served
from triton_python_backend import contract

SAME = 0.999
"""Cosine from which two embeddings of one photo are those of one network."""
PAUSE_SECONDS = 0.02
"""Between an answer and a client's next request: leaves the cores to what is done meanwhile."""


@dataclass
class Traffic:
    """What constant traffic saw.

    embeddings: of the photo, by space, as the first answer of that space had it.
    """

    served: Served
    embeddings: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    versions: dict[str, set[str]] = field(default_factory=dict)
    answers: Counter[tuple[str, str]] = field(default_factory=Counter)
    first_at: dict[str, float] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(
        self, client: str, space: str, embedding: npt.NDArray[Any], version: str | None
    ) -> None:
        """Hold an answer against the others of its space."""
        with self._lock:
            self.answers[client, space] += 1
            self.first_at.setdefault(space, time.monotonic())
            if version is not None:
                self.versions.setdefault(space, set()).add(version)
            known = self.embeddings.setdefault(space, embedding)
        if not np.isfinite(embedding).all():
            self.fail(client, f"{space}: not finite")
        elif known.shape != embedding.shape or float(known @ embedding) < SAME:
            self.fail(client, f"{space}: another embedding, {embedding.shape}")

    def fail(self, client: str, text: str) -> None:
        with self._lock:
            self.wrong.append(f"{client}: {text}")

    def wait_for(self, space: str, *, seconds: float = 120) -> float:
        """Wait until both clients are answered by a space; the seconds until the first was."""
        started = time.monotonic()
        before = Counter(self.answers)
        while time.monotonic() - started < seconds:
            grown = [self.answers[who, space] > before[who, space] + 1 for who in ("grpc", "http")]
            if all(grown):
                return self.first_at[space] - started
            time.sleep(0.05)
        message = f"no answers of {space} after {seconds} s: {dict(self.answers)}, {self.wrong[:3]}"
        raise TimeoutError(message)

    def only(self, space: str, *, seconds: float) -> bool:
        """Whether all answers of the next seconds are of one space."""
        before = Counter(self.answers)
        time.sleep(seconds)
        grown = {who_space[1] for who_space, n in (self.answers - before).items() if n}
        return grown == {space}


@contextmanager
def clients(*work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Have each do its work on a thread until the event that it is given is set."""
    stop = threading.Event()
    threads = [threading.Thread(target=each, args=(stop,)) for each in work]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@contextmanager
def traffic(served: Served) -> Iterator[Traffic]:
    """Ask the ensemble over gRPC and the gateway over HTTP, again and again."""
    seen = Traffic(served)
    with clients(partial(_ask_triton, seen), partial(_ask_gateway, seen)):
        yield seen


def _ask_triton(seen: Traffic, stop: threading.Event) -> None:
    image = tritonclient.grpc.InferInput(contract.IMAGE, [1], "BYTES")
    image.set_data_from_numpy(np.array([photos.PORTRAIT.read_bytes()], dtype=np.object_))
    with tritonclient.grpc.InferenceServerClient(seen.served.grpc_address) as client:
        while not stop.wait(PAUSE_SECONDS):
            try:
                answer = client.infer(contract.PIPELINE.name, [image], client_timeout=60)
            except tritonclient.grpc.InferenceServerException as error:
                seen.fail("grpc", str(error))
                continue
            space = contract.format_id(int(answer.as_numpy(contract.SPACE)[0]))
            seen.note("grpc", space, answer.as_numpy(contract.EMBEDDING)[0], None)


def _ask_gateway(seen: Traffic, stop: threading.Event) -> None:
    data = photos.PORTRAIT.read_bytes()
    with requests.Session() as session:
        while not stop.wait(PAUSE_SECONDS):
            with suppress(requests.ConnectionError):
                answer = session.post(
                    f"{seen.served.url}/api/ml/embed", files={"image": ("x", data)}, timeout=60
                )
                if answer.status_code != 200:
                    seen.fail("http", answer.text)
                    continue
                body = answer.json()
                models = body["models"]
                embedding = np.asarray(body["faces"][0]["embedding"], np.float32)
                seen.note("http", models["space"], embedding, models["embedding"])
                continue
            seen.fail("http", "no connection")


def write_other_network(source: Path, target: Path, *, dimension: int | None = None) -> Path:
    """Make another real embedding network of an ArcFace file: its last layer is mixed anew.

    With a `dimension` the embedding is projected to it by a fixed random matrix.
    """
    model = onnx.load(source)
    output = model.graph.output[0]
    session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    crop = {session.get_inputs()[0].name: np.zeros((1, 3, 112, 112), np.float32)}
    width = session.run(None, crop)[0].shape[-1]
    mix = np.random.default_rng(5).normal(size=(width, dimension or width)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(mix, "mix"))
    model.graph.node.append(onnx.helper.make_node("MatMul", [output.name, "mix"], ["mixed"]))
    output.name = "mixed"
    del output.type.tensor_type.shape.dim[:]
    output.type.tensor_type.shape.dim.add(dim_param="batch")
    output.type.tensor_type.shape.dim.add(dim_value=dimension or width)
    onnx.save(model, target)
    return target


def spoil_with_nan(path: Path) -> None:
    """Make every answer of a network NaN; it still loads."""
    model = onnx.load(path)
    largest = max(
        (t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT),
        key=lambda tensor: len(tensor.raw_data),
    )
    array = np.full_like(numpy_helper.to_array(largest), np.nan)
    largest.CopyFrom(numpy_helper.from_array(array, largest.name))
    onnx.save(model, path)
