"""InsightFace-REST: github.com/SthPhoenix/InsightFace-REST."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

import onnx
from onnx import helper

from benchmarks.peers.peer import Peer, assigned, put
from benchmarks.peers.service import Networks, Request

_OLDER: Final = ("numpy<2", "numba<0.60", "opencv-python<4.12", "fastapi<0.120", "setuptools<81")
"""What its code and its pinned onnx and onnxruntime need; its list leaves it open."""


class InsightFaceRest(Peer):
    """`POST /extract`, which takes the photo as base64 in JSON."""

    name: ClassVar[str] = "InsightFace-REST"
    work: ClassVar[str] = "detector on 640 pixels, embeddings of all faces, one by one"
    checkout: ClassVar[str] = "InsightFace-REST"
    repository: ClassVar[str] = "github.com/SthPhoenix/InsightFace-REST"
    marker: ClassVar[str] = "if_rest"

    def packages(self) -> list[list[str]]:
        """Its list, with the one package that it takes from Git taken from the registry."""
        lines = (self.source / "requirements.txt").read_text().split()
        listed = [line for line in lines if not line.startswith("git+")]
        return [[*listed, "PyTurboJPEG<2", *_OLDER]]

    def place(self, networks: Networks) -> None:
        """Its folder of networks with a list of its own.

        Its decoder takes SCRFD's outputs with a batch axis, [1,N,C], as the files of its own list
        have them; det_500m gives [N,C].
        """
        models = self.folder / "models"
        listed = {}
        for network, function, shape in (
            (networks.detector, "scrfd", [1, 3, 640, 640]),
            (networks.embedder, "arcface_torch", [1, 3, 112, 112]),
        ):
            name = network.stem
            at = models / "onnx" / name / f"{name}.onnx"
            if function == "scrfd":
                with_batch_axis(network, at)
            else:
                put(network, at)
            listed[name] = {
                "function": function,
                "shape": shape,
                "reshape": function == "scrfd",
                "allow_batching": True,
            }
        (models / "models.json").write_text(json.dumps(listed))
        self._names = networks.detector.stem, networks.embedder.stem

    def command(self, port: int) -> list[str]:
        """The command of its image, one worker; Numba may compile for long at the first start."""
        server = ["-m", "gunicorn", "--log-level", "warning", "-w", "1"]
        worker = ["-k", "uvicorn.workers.UvicornWorker", "--keep-alive", "60", "--timeout", "600"]
        application = ["if_rest.api.main:app", "-b", f"127.0.0.1:{port}"]
        return [str(self.python), *server, *worker, *application]

    def environment(self, port: int) -> Mapping[str, str]:
        """Networks by name, the runtime for CPUs."""
        detector, embedder = self._names
        return {
            "PYTHONPATH": str(self.source),
            "MODELS_DIR": str(self.folder / "models"),
            "INFERENCE_BACKEND": "onnx",
            "DET_NAME": detector,
            "REC_NAME": embedder,
            "LOG_LEVEL": "WARNING",
            "NUMBA_CACHE_DIR": str(self.folder / "numba"),
        }

    def version(self) -> str:
        """The default of a variable in its code."""
        pattern = r"IFR_VERSION', '([^']+)'"
        return assigned(self.source / "if_rest" / "api" / "main.py", pattern)

    def request(self, photo: bytes) -> Request:
        """A JSON text."""
        asked = {
            "images": {"data": [base64.b64encode(photo).decode()]},
            "threshold": 0.5,
            "extract_embedding": True,
            "return_landmarks": True,
        }
        return Request("/extract", json.dumps(asked).encode(), "application/json")

    def faces(self, answer: bytes) -> int:
        """Of the one picture in `data`."""
        found = json.loads(answer)["data"][0].get("faces") or []
        return sum(len(face["vec"] or ()) > 0 for face in found)


def with_batch_axis(network: Path, at: Path) -> None:
    """Write a network whose outputs [N,C] gain a first axis of 1, under the same names."""
    model = onnx.load(network)
    axis_is_input = model.opset_import[0].version >= 13
    for output in model.graph.output:
        flat = f"{output.name}_flat"
        for node in model.graph.node:
            for index, name in enumerate(node.output):
                if name == output.name:
                    node.output[index] = flat
        inputs = [flat]
        attributes: dict[str, Any] = {} if axis_is_input else {"axes": [0]}
        if axis_is_input:
            axes = helper.make_tensor(f"{output.name}_axes", onnx.TensorProto.INT64, [1], [0])
            model.graph.initializer.append(axes)
            inputs.append(axes.name)
        node = helper.make_node("Unsqueeze", inputs, [output.name], **attributes)
        model.graph.node.append(node)
        sizes = [dimension.dim_value for dimension in output.type.tensor_type.shape.dim]
        output.CopyFrom(
            helper.make_tensor_value_info(output.name, onnx.TensorProto.FLOAT, [1, *sizes])
        )
    at.parent.mkdir(parents=True, exist_ok=True)
    at.unlink(missing_ok=True)
    onnx.save(model, at)
