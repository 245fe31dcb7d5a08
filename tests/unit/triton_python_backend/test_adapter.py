"""The adapter with a stand-in for Triton's module; tests/integration runs the real one."""

import threading
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.support import photos
from triton_python_backend import contract, stages
from triton_python_backend.adapter import Adapter, read_threads
from triton_python_backend.decoders.pool import DecodersAwayError
from triton_python_backend.slow_lane import MAX_WAITING


@dataclass
class Tensor:
    name: str
    array: np.ndarray

    def as_numpy(self) -> np.ndarray:
        return self.array


@dataclass
class TritonError:
    message: str
    code: str
    INVALID_ARG = "invalid"
    INTERNAL = "internal"
    UNAVAILABLE = "unavailable"


@dataclass
class Response:
    output_tensors: list[Tensor] = field(default_factory=list)
    error: TritonError | None = None


def utils() -> SimpleNamespace:
    return SimpleNamespace(
        Tensor=Tensor,
        TritonError=TritonError,
        InferenceResponse=Response,
        TRITONSERVER_RESPONSE_COMPLETE_FINAL="final",
        Logger=SimpleNamespace(log_error=lambda _: None),
        get_input_tensor_by_name=lambda request, name: request.tensor(name),
    )


@dataclass
class Sender:
    """Records the answers that a request gets after `execute` returned."""

    sent: list[tuple[Response, str]] = field(default_factory=list)

    def send(self, response: Response, *, flags: str) -> None:
        self.sent.append((response, flags))


@dataclass
class Request:
    """Inputs are read by name, as in Triton: None if absent."""

    inputs: dict[str, np.ndarray]
    outputs: list[str] = field(
        default_factory=lambda: [t.name for t in contract.PREPROCESS.outputs]
    )
    read: list[str] = field(default_factory=list)
    sender: Sender = field(default_factory=Sender)
    given: str = "{}"

    def get_response_sender(self) -> Sender:
        return self.sender

    def parameters(self) -> str:
        return self.given

    def tensor(self, name: str) -> Tensor | None:
        self.read.append(name)
        return Tensor(name, self.inputs[name]) if name in self.inputs else None

    def requested_output_names(self) -> list[str]:
        return self.outputs


def request(data: bytes) -> Request:
    return Request({contract.IMAGE: np.array([data], dtype=np.object_)})


def png(size: int) -> bytes:
    return cv2.imencode(".png", np.full((size, size, 3), 10, np.uint8))[1].tobytes()


@pytest.fixture
def adapter() -> Adapter:
    return Adapter(utils(), contract.PREPROCESS, stages.preprocess_image)


@pytest.mark.parametrize("count", [1, 4])
def test_each_request_gets_its_own_answer(adapter, count):
    answers = adapter.execute([request(png(10 + i)) for i in range(count)])
    shapes = [answer.output_tensors[0].array.shape for answer in answers]
    assert shapes == [(10 + i, 10 + i, 3) for i in range(count)]
    names = [tensor.name for tensor in answers[0].output_tensors]
    assert names == [tensor.name for tensor in contract.PREPROCESS.outputs]


def test_one_corrupt_image_among_good_ones_fails_alone(adapter):
    answers = adapter.execute([request(png(9)), request(b"corrupt"), request(png(11))])
    assert [answer.error is None for answer in answers] == [True, False, True]
    assert answers[1].error.code == TritonError.INVALID_ARG
    assert answers[1].error.message.startswith(contract.INVALID_IMAGE)


def test_an_unexpected_failure_fails_only_its_own_request():
    def fail(inputs):
        raise KeyError("lost")

    answer = Adapter(utils(), contract.PREPROCESS, fail).execute([request(png(9))])[0]
    assert answer.error.code == TritonError.INTERNAL


def test_without_a_process_that_decodes_another_engine_may_answer():
    def decode(header, data, *, reduction=None):
        raise DecodersAwayError("no decoder process starts: no room")

    function = partial(stages.preprocess_or_defer, decode=decode)
    answer = Adapter(utils(), contract.PREPROCESS, function).execute([request(png(9))])[0]
    assert answer.error.code == TritonError.UNAVAILABLE


def test_only_used_inputs_are_read_and_only_requested_outputs_are_answered():
    def answer(inputs):
        assert set(inputs) == {tensor.name for tensor in contract.ALIGNMENT.inputs}
        count = int(inputs[contract.FRAME_DETECTOR][0, 0])
        return dict.fromkeys((t.name for t in contract.ALIGNMENT.outputs), np.array([count]))

    asked = Request({contract.FRAME_DETECTOR: np.array([[7]])}, outputs=[contract.DETECTOR])
    answered = Adapter(utils(), contract.ALIGNMENT, answer).execute([asked])[0]
    assert asked.read == [contract.FRAME_DETECTOR]
    assert [(t.name, t.array.tolist()) for t in answered.output_tensors] == [("DETECTOR", [7])]


def test_the_error_names_a_missing_input():
    adapter = Adapter(utils(), contract.ALIGNMENT, lambda inputs: {"x": inputs[contract.PIXELS]})
    assert contract.PIXELS in adapter.execute([Request({})])[0].error.message


def slow_unless(quick: bytes, finish: threading.Event):
    """A stage that is slow for all images except one."""

    def answer(inputs):
        if inputs[contract.IMAGE][0] == quick:
            return stages.preprocess_image(inputs)
        held = {contract.IMAGE: inputs[contract.IMAGE]}

        def work():
            assert finish.wait(60)
            return stages.preprocess_image(held)

        return stages.Slow(work)

    return answer


def test_slow_work_is_answered_later_without_delaying_others():
    finish = threading.Event()
    adapter = Adapter(utils(), contract.PREPROCESS, slow_unless(png(9), finish))
    slow, quick = request(png(10)), request(png(9))
    answers = adapter.execute([slow, quick])
    assert answers[0] is None
    assert answers[1].output_tensors[0].array.shape == (9, 9, 3)
    assert slow.sender.sent == []
    finish.set()
    adapter.close()
    [(response, flags)] = slow.sender.sent
    assert flags == "final"
    assert response.output_tensors[0].array.shape == (10, 10, 3)


def test_failing_slow_work_fails_only_its_own_request():
    finish = threading.Event()
    finish.set()
    adapter = Adapter(utils(), contract.PREPROCESS, slow_unless(png(9), finish))
    broken = request(b"corrupt")
    assert adapter.execute([broken]) == [None]
    adapter.close()
    [(response, _)] = broken.sender.sent
    assert response.error.message.startswith(contract.INVALID_IMAGE)


def test_slow_work_beyond_the_queue_is_refused():
    finish = threading.Event()
    adapter = Adapter(utils(), contract.PREPROCESS, slow_unless(png(9), finish))
    answers = adapter.execute([request(png(10)) for _ in range(MAX_WAITING + 1)])
    finish.set()
    adapter.close()
    assert answers[:-1] == [None] * MAX_WAITING
    assert answers[-1].error.code == TritonError.UNAVAILABLE


def test_threads_answer_requests_side_by_side_each_with_its_own_answer():
    meeting = threading.Barrier(2, timeout=60)

    def answer(inputs):
        def work():
            meeting.wait()
            return stages.preprocess_image(inputs)

        return stages.Beside(work)

    adapter = Adapter(utils(), contract.PREPROCESS, answer, threads=2)
    asked = [request(png(9)), request(b"corrupt"), request(png(10)), request(png(11))]
    assert adapter.execute(asked) == [None] * 4
    adapter.close()
    answers = [each.sender.sent for each in asked]
    assert [(len(sent), sent[0][1]) for sent in answers] == [(1, "final")] * 4
    assert [sent[0][0].error is None for sent in answers] == [True, False, True, True]
    shapes = [answers[at][0][0].output_tensors[0].array.shape for at in (0, 2, 3)]
    assert shapes == [(9, 9, 3), (10, 10, 3), (11, 11, 3)]


def test_brief_work_passes_what_is_done_beside_it():
    finish = threading.Event()
    slow = slow_unless(png(9), finish)

    def function(inputs):
        outputs = slow(inputs)
        return stages.Beside(outputs.work) if isinstance(outputs, stages.Slow) else outputs

    adapter = Adapter(utils(), contract.PREPROCESS, function, threads=2)
    passed, quick = request(png(10)), request(png(9))
    answers = adapter.execute([passed, quick])
    assert answers[0] is None
    assert answers[1].output_tensors[0].array.shape == (9, 9, 3)
    assert passed.sender.sent == []
    finish.set()
    adapter.close()
    assert passed.sender.sent[0][0].error is None


def test_without_threads_nothing_is_passed():
    def function(inputs):
        return stages.Beside(lambda: stages.preprocess_image(inputs))

    answered = Adapter(utils(), contract.PREPROCESS, function).execute([request(png(9))])
    assert answered[0].output_tensors[0].array.shape == (9, 9, 3)


@pytest.mark.parametrize(
    ("config", "threads"),
    [("{}", 1), ('{"parameters": {"threads": {"string_value": "4"}}}', 4)],
)
def test_a_config_says_how_many_threads_answer(config, threads):
    assert read_threads(config) == threads


def test_a_slow_picture_is_deferred_and_decoded_in_full():
    data = photos.encode(Image.new("RGB", (5200, 4000)), "JPEG", progressive=True, subsampling=0)
    deferred = stages.preprocess_or_defer({contract.IMAGE: np.array([data], dtype=np.object_)})
    assert isinstance(deferred, stages.Slow)
    assert deferred.work()[contract.SIZE].tolist() == [5200, 4000, 1]
    large = photos.encode(Image.new("RGB", (2400, 1800)), "JPEG")
    passed = stages.preprocess_or_defer({contract.IMAGE: np.array([large], dtype=np.object_)})
    assert isinstance(passed, stages.Beside)
    assert passed.work()[contract.SIZE].tolist() == [2400, 1800, 1]
    small = stages.preprocess_or_defer({contract.IMAGE: np.array([png(9)], dtype=np.object_)})
    assert small[contract.SIZE].tolist() == [9, 9, 1]


@pytest.mark.parametrize(
    ("given", "look"),
    [
        ("{}", contract.DEFAULT_LOOK),
        ('{"max_faces":64,"binary_data_output":true}', contract.Look(max_faces=64)),
        (
            '{"rotation":"off","detail":"high"}',
            contract.Look(rotation="off", detail="high"),
        ),
    ],
)
def test_parameters_reach_the_stages_that_read_them(given, look):
    seen = []

    def function(inputs, asked):
        seen.append(asked)
        return stages.preprocess_image(inputs)

    adapter = Adapter(utils(), contract.PREPROCESS, function, reads_parameters=True)
    asked = request(png(9))
    asked.given = given
    assert adapter.execute([asked])[0].error is None
    assert seen == [look]


def test_a_wrong_parameter_fails_only_its_own_request():
    adapter = Adapter(utils(), contract.PREPROCESS, lambda inputs, look: {}, reads_parameters=True)
    wrong = request(png(9))
    wrong.given = '{"rotation":"sideways"}'
    answer = adapter.execute([wrong])[0]
    assert answer.error.code == TritonError.INVALID_ARG
    assert answer.error.message.startswith(contract.INVALID_PARAMETER)
    assert "rotation is one of auto, off" in answer.error.message
