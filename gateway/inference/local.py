"""The ensemble in one process: the same stages, networks and configurations, without a server.

It loads OpenCV and ONNX Runtime, which the gateway does without: it runs this engine in a process
of its own (`process.py`).
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from google.protobuf import text_format
from google.protobuf.json_format import MessageToDict
from tritonclient.grpc import model_config_pb2

from gateway.errors import (
    AurumError,
    ConfigurationError,
    InferenceUnavailableError,
    InvalidImageError,
)
from gateway.inference.answer import read_beyond, read_faces, read_ids, read_rotation
from gateway.types import ActiveVersions, Analysis, Need, Weights
from triton_python_backend import contract, stages
from triton_python_backend.decoders.pool import DecodersAwayError
from triton_python_backend.decoding import Decode, Pixels, decode_with
from triton_python_backend.detection import Detections
from triton_python_backend.formats.header import InvalidImageError as UndecodableError
from triton_python_backend.needs import networks_for
from triton_python_backend.onnx_session import Call, OnnxSession
from triton_python_backend.second_look import SecondLooks
from triton_python_backend.served_detector import batched, read_canvases

log = logging.getLogger(__name__)

ENGINE: Final = "local"
"""What answers name as their engine."""
EVERYTHING: Final = ~Need.NOTHING_MORE
_CONFIG_FILE: Final = "config.pbtxt"
_MODEL_FILE: Final = "model.onnx"
_ID_PROPERTY: Final = "aurum.id"
_NEWEST: Final[Mapping[str, str]] = {}
_FRAME: Final = (
    contract.FRAME_BOXES,
    contract.FRAME_LANDMARKS,
    contract.FRAME_CONFIDENCE,
    contract.FRAME_DETECTOR,
)
"""The detector's outputs, in their order, by the names of the alignment stage."""
Arrays = dict[str, npt.NDArray[Any]]


class LocalEnsemble:
    """One version of each ONNX stage of a repository. May be shared by threads."""

    def __init__(
        self,
        repository: Path,
        versions: Mapping[str, str] = _NEWEST,
        *,
        decode: Decode = decode_with,
    ) -> None:
        """Load the networks: of each stage the version named, else, or if it is gone, the newest.

        decode: where images are decoded; by default in this process.

        Raises ConfigurationError for a stage without a version, or whose version does not load.
        """
        self.folders: dict[str, Path] = {}
        """The version's folder by name of the stage."""
        self._second_looks = SecondLooks(repository)
        self._decode = decode
        self._sessions: dict[str, OnnxSession] = {}
        for stage in contract.ONNX_STAGES:
            folder = _choose_version(repository / stage.name, versions.get(stage.name))
            self.folders[stage.name] = folder
            self._sessions[stage.name] = _load(folder)

    @property
    def weights(self) -> ActiveVersions:
        """The weights by name of the stage, as far as the importer wrote down their ids."""
        return {
            stage: Weights(identifier, self.folders[stage].name)
            for stage, identifier in self.ids.items()
        }

    @property
    def ids(self) -> Mapping[str, str]:
        """Id of the weights by name of the stage, as far as the importer wrote it down."""
        properties = {name: session.metadata for name, session in self._sessions.items()}
        return {
            name: found[_ID_PROPERTY] for name, found in properties.items() if _ID_PROPERTY in found
        }

    def analyse(
        self, image: bytes, need: Need = EVERYTHING, look: contract.Look = contract.DEFAULT_LOOK
    ) -> Analysis:
        """Answer as the server would, running only the networks that are needed.

        Raises:
            InvalidImageError: the bytes cannot be decoded.
            InferenceUnavailableError: no process that decodes starts.
            AurumError: a network failed.
        """
        try:
            answer = self._detect(image, look)
        except UndecodableError as error:
            reason = str(error).splitlines()[0]
            raise InvalidImageError(f"the image cannot be decoded: {reason}") from error
        except DecodersAwayError as error:
            raise InferenceUnavailableError(str(error)) from error
        crops = answer.pop(contract.CROPS_OR_FILLER)
        for stage in contract.FACE_NETWORKS:
            if stage.name in networks_for(need):
                known = {**answer, contract.CROPS: crops}
                answer |= self._run(stage, {each.name: known[each.name] for each in stage.inputs})
        weights = {
            stage: Weights(contract.format_id(identifier), self.folders[stage].name)
            for stage, identifier in read_ids(answer)
        }
        return Analysis(
            faces=read_faces(answer, need),
            weights=weights,
            engine=ENGINE,
            beyond=read_beyond(answer),
            rotation=read_rotation(answer),
        )

    def _detect(self, image: bytes, look: contract.Look) -> Arrays:
        encoded = np.array([image], dtype=np.object_)
        seen = dict(stages.preprocess_image({contract.IMAGE: encoded}, decode=self._decode))
        found = self._run(contract.DETECTION, {contract.CANVAS: seen.pop(contract.FRAME)})
        frame = zip(_FRAME, contract.DETECTION.outputs, strict=True)
        given = {name: found[tensor.name] for name, tensor in frame}
        return dict(
            stages.align_faces(
                {contract.IMAGE: encoded, **seen, **given},
                look,
                ask=self._ask,
                second_look=self._second_looks.of,
                decode=self._decode,
            )
        )

    def _ask(self, canvases: Sequence[Pixels], *, detector: int) -> list[Detections]:
        return self.look_at(canvases)

    def look_at(self, canvases: Sequence[Pixels]) -> list[Detections]:
        """Run the detector on canvases, [h,w,3] uint8 each; raises AurumError if it fails."""
        batches = [np.stack(batch) for batch in batched(canvases)]
        answers = [self._run(contract.DETECTION, {contract.CANVAS: batch}) for batch in batches]
        return [found for answer in answers for found in read_canvases(answer)]

    def _run(self, stage: contract.Stage, given: Arrays) -> Arrays:
        call = Call(given, [tensor.name for tensor in stage.outputs])
        (found,) = self._sessions[stage.name].run([call])
        if isinstance(found, Exception):
            log.error("a network failed", extra={"stage": stage.name, "reason": str(found)})
            raise AurumError(f"inference failed: {stage.name}") from found
        return found


def _choose_version(stage: Path, wanted: str | None) -> Path:
    folders = [
        path
        for path in stage.glob("[1-9]*")
        if path.name.isdecimal() and (path / _MODEL_FILE).is_file()
    ]
    if not folders:
        raise ConfigurationError(f"{stage} has no version")
    chosen = [path for path in folders if path.name == wanted]
    return chosen[0] if chosen else max(folders, key=lambda path: int(path.name))


def _load(folder: Path) -> OnnxSession:
    """Load a version as its stage's configuration says; raises ConfigurationError."""
    path = folder.parent / _CONFIG_FILE
    try:
        config = text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())
        described = MessageToDict(config, preserving_proto_field_name=True)
        return OnnxSession(described, folder / _MODEL_FILE)
    # whatever protobuf and ONNX Runtime raise, which is any of a dozen kinds
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigurationError(f"{folder} does not load: {reason}") from error
