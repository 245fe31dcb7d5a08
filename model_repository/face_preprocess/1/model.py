"""Stage 1 of 6: encoded bytes to upright pixels and detector canvases."""

from functools import partial

import triton_python_backend_utils as pb_utils

from triton_python_backend import contract, stages
from triton_python_backend.adapter import Adapter, read_threads
from triton_python_backend.decoders.pool import DecoderPool


class TritonPythonModel:
    """Entry point that Triton's Python backend calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Connect the stage's function to Triton."""
        threads = read_threads(args["model_config"])
        self._decoders = DecoderPool(keep=threads + 1, log=pb_utils.Logger.log_warn)
        self._decoders.start()
        function = partial(stages.preprocess_or_defer, decode=self._decoders.decode_with)
        self._adapter = Adapter(pb_utils, contract.PREPROCESS, function, threads=threads)

    def execute(self, requests: list[object]) -> list[object]:
        """Answer each request."""
        return self._adapter.execute(requests)

    def finalize(self) -> None:
        """Answer the requests that are still in the slow lane."""
        self._adapter.close()
        self._decoders.close()
