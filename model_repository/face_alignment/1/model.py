"""Stage 3 of 6: detections to faces, aligned crops and quality."""

from functools import partial
from pathlib import Path

import triton_python_backend_utils as pb_utils

from triton_python_backend import contract, stages
from triton_python_backend.adapter import Adapter, read_threads
from triton_python_backend.decoders.pool import DecoderPool
from triton_python_backend.second_look import SecondLooks
from triton_python_backend.served_detector import ServedDetector


class TritonPythonModel:
    """Entry point that Triton's Python backend calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Connect the stage's function to Triton."""
        # the path of model.py or of its folder, depending on the version of Triton
        repository = Path(args["model_repository"]).parent
        detector = ServedDetector(pb_utils, repository)
        threads = read_threads(args["model_config"])
        self._decoders = DecoderPool(keep=threads, log=pb_utils.Logger.log_warn)
        function = partial(
            stages.align_or_defer,
            ask=detector.ask,
            second_look=SecondLooks(repository).of,
            decode=self._decoders.decode_with,
        )
        self._adapter = Adapter(
            pb_utils,
            contract.ALIGNMENT,
            function,
            reads_parameters=True,
            threads=threads,
        )

    def execute(self, requests: list[object]) -> list[object]:
        """Answer each request."""
        return self._adapter.execute(requests)

    def finalize(self) -> None:
        """Answer the requests that are still in the slow lane."""
        self._adapter.close()
        self._decoders.close()
