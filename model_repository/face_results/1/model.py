"""Stage 6 of 6: embeddings and scores of the faces, without the filler row."""

import triton_python_backend_utils as pb_utils

from triton_python_backend import contract, stages
from triton_python_backend.adapter import Adapter


class TritonPythonModel:
    """Entry point that Triton's Python backend calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Connect the stage's function to Triton."""
        self._adapter = Adapter(pb_utils, contract.RESULTS, stages.gather_results)

    def execute(self, requests: list[object]) -> list[object]:
        """Answer each request."""
        return self._adapter.execute(requests)
