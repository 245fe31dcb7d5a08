"""The `onnxruntime` backend of the wheel's server, which has no native one.

Triton takes this file as a backend when it lies in `<backend directory>/onnxruntime/`.
"""

import json
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils

from triton_python_backend.contract import stage_of
from triton_python_backend.onnx_session import Call, OnnxSession
from triton_python_backend.self_test import self_test


class TritonPythonModel:
    """Entry point that Triton's Python backend calls, one for each model instance."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the graph of this version and try it."""
        config = json.loads(args["model_config"])
        self._inputs = [entry["name"] for entry in config["input"]]
        filename = config.get("default_model_filename") or "model.onnx"
        gpu = int(args["model_instance_device_id"])
        self._session = OnnxSession(
            config,
            Path(pb_utils.get_model_dir()) / filename,
            gpu=gpu if args["model_instance_kind"] == "GPU" else None,
        )
        # an error here keeps the previous version in service
        self_test(stage_of(args["model_name"]), self._session)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Respond to the requests of one batch with one run."""
        calls = [
            Call(
                {
                    name: pb_utils.get_input_tensor_by_name(request, name).as_numpy()
                    for name in self._inputs
                },
                list(request.requested_output_names()),
            )
            for request in requests
        ]
        return [self._respond(answer) for answer in self._session.run(calls)]

    @staticmethod
    def _respond(answer: Any) -> Any:
        if isinstance(answer, Exception):
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(answer)))
        tensors = [pb_utils.Tensor(name, array) for name, array in answer.items()]
        return pb_utils.InferenceResponse(output_tensors=tensors)
