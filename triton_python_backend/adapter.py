"""Convert Triton's requests to calls of the stages' functions, and the results to responses.

`triton_python_backend_utils` exists only inside Triton's stub process, so each `model.py` passes it
in.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from triton_python_backend import contract
from triton_python_backend.decoders.pool import DecodersAwayError
from triton_python_backend.formats.header import InvalidImageError
from triton_python_backend.lanes import Lanes
from triton_python_backend.parameters import InvalidParameterError, read_look
from triton_python_backend.slow_lane import SlowLane
from triton_python_backend.stages import Arrays, Beside, Slow

NUMPY_TYPES = {"BYTES": np.object_, "UINT8": np.uint8, "FP32": np.float32, "INT64": np.int64}


THREADS_PARAMETER = "threads"
"""Parameter of a Python stage's `config.pbtxt`: number of requests processed concurrently."""


def read_threads(config: str) -> int:
    """Read the number of threads from a stage's configuration; 1 if it has none.

    config: JSON, as Triton passes it to `initialize`. Raises ValueError if it is not a number.
    """
    parameter = json.loads(config).get("parameters", {}).get(THREADS_PARAMETER)
    return 1 if parameter is None else int(parameter["string_value"])


class Inputs(Mapping[str, npt.NDArray[Any]]):
    """A request's inputs; each is copied out of shared memory when it is first read.

    Reading BYTES copies them, and the alignment stage rarely reads the image's.
    """

    def __init__(self, pb_utils: Any, stage: contract.Stage, request: Any) -> None:
        self._pb_utils = pb_utils
        self._stage = stage
        self._request = request

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        """Read an input; raises KeyError if the request has none of that name."""
        tensor = self._pb_utils.get_input_tensor_by_name(self._request, name)
        if tensor is None:
            raise KeyError(name)
        array: npt.NDArray[Any] = tensor.as_numpy()
        return array

    def __iter__(self) -> Iterator[str]:
        """Names of the stage's inputs."""
        return (tensor.name for tensor in self._stage.inputs)

    def __len__(self) -> int:
        """Number of the stage's inputs."""
        return len(self._stage.inputs)


class Adapter:
    """Runs a stage's function for each request of a batch separately: a bad one fails alone.

    Slow work goes to the slow lane, so that later requests do not wait for it. Other work that may
    run concurrently goes to the threads; short work runs at once, as a handover costs more.
    """

    def __init__(
        self,
        pb_utils: Any,
        stage: contract.Stage,
        function: Callable[..., Arrays | Beside | Slow],
        *,
        reads_parameters: bool = False,
        threads: int = 1,
    ) -> None:
        """Create an adapter.

        function: takes `Arrays`, and with `reads_parameters` the request's `Look`.
        threads: number of requests processed concurrently; with 1 everything runs in `execute`.
        """
        self._pb_utils = pb_utils
        self._stage = stage
        self._function = function
        self._slow_lane = SlowLane()
        self._lanes = Lanes(threads) if threads > 1 else None
        self._reads_parameters = reads_parameters

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """One `InferenceResponse` per request, in order; None for a response that follows later."""
        return [self._answer(request) for request in requests]

    def close(self) -> None:
        """Finish the work of the threads and the slow lane."""
        if self._lanes is not None:
            self._lanes.close()
        self._slow_lane.close()

    def _answer(self, request: Any) -> Any | None:
        return self._respond(request, lambda: self._run(request))

    def _run(self, request: Any) -> Arrays | Beside | Slow:
        asked = [read_look(request.parameters())] if self._reads_parameters else []
        return self._function(Inputs(self._pb_utils, self._stage, request), *asked)

    def _respond(self, request: Any, work: Callable[[], Arrays | Beside | Slow]) -> Any | None:
        pb_utils = self._pb_utils
        try:
            outputs = work()
            if isinstance(outputs, Beside):
                if self._lanes is not None:
                    self._lanes.take(self._answering(request, outputs.work))
                    return None
                outputs = outputs.work()
            if isinstance(outputs, Slow):
                return self._answer_later(request, outputs)
            wanted = set(request.requested_output_names())
            tensors = [
                pb_utils.Tensor(tensor.name, self._typed(outputs[tensor.name], tensor))
                for tensor in self._stage.outputs
                if tensor.name in wanted
            ]
        except InvalidImageError as error:
            return self._refuse(
                f"{contract.INVALID_IMAGE}: {error}", pb_utils.TritonError.INVALID_ARG
            )
        except InvalidParameterError as error:
            return self._refuse(
                f"{contract.INVALID_PARAMETER}: {error}", pb_utils.TritonError.INVALID_ARG
            )
        except DecodersAwayError as error:
            pb_utils.Logger.log_error(f"{self._stage.name}: {error}")
            return self._refuse(str(error), pb_utils.TritonError.UNAVAILABLE)
        except Exception as error:  # noqa: BLE001 - one bad request answers with its own error
            pb_utils.Logger.log_error(f"{self._stage.name}: {error!r}")
            return self._refuse(f"{self._stage.name}: {error!r}", pb_utils.TritonError.INTERNAL)
        return pb_utils.InferenceResponse(output_tensors=tensors)

    def _answer_later(self, request: Any, slow: Slow) -> Any | None:
        pb_utils = self._pb_utils
        if self._slow_lane.take(self._answering(request, slow.work)):
            return None
        return self._refuse(
            "too many images that are slow to decode are waiting", pb_utils.TritonError.UNAVAILABLE
        )

    def _answering(self, request: Any, work: Callable[[], Arrays]) -> Callable[[], None]:
        """Make the function that responds to a request after `execute` has returned."""
        sender = request.get_response_sender()

        def answer() -> None:
            response = self._respond(request, work)
            sender.send(response, flags=self._pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

        return answer

    @staticmethod
    def _typed(array: npt.NDArray[Any], tensor: contract.Tensor) -> npt.NDArray[Any]:
        return np.ascontiguousarray(array, dtype=NUMPY_TYPES[tensor.dtype])

    def _refuse(self, message: str, code: Any) -> Any:
        pb_utils = self._pb_utils
        return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
