"""immich's machine learning service: folder `machine-learning/` of github.com/immich-app/immich."""

import json
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from benchmarks.peers.peer import Peer, project_version, put
from benchmarks.peers.service import Networks, Request, form

_PACK: Final = "buffalo_s"
"""A name that the service knows; what lies in its cache under it is what it loads."""


class Immich(Peer):
    """`POST /predict` with both stages of facial recognition, as immich's server asks.

    It would fetch networks from Hugging Face; those that lie in its cache already are taken.
    """

    name: ClassVar[str] = "immich machine learning"
    work: ClassVar[str] = "detector on 640 pixels, embeddings of all faces"
    checkout: ClassVar[str] = "immich"
    repository: ClassVar[str] = "github.com/immich-app/immich, machine-learning/"
    marker: ClassVar[str] = "machine-learning/immich_ml"

    def packages(self) -> list[list[str]]:
        """The project with the runtime for CPUs."""
        return [[f"{self.source / 'machine-learning'}[cpu]"]]

    def place(self, networks: Networks) -> None:
        """A folder for each stage, in the layout of its cache."""
        pack = self.folder / "cache" / "facial-recognition" / _PACK
        put(networks.detector, pack / "detection" / "model.onnx")
        put(networks.embedder, pack / "recognition" / "model.onnx")

    def command(self, port: int) -> list[str]:
        """The command of its image."""
        return [str(self.python), "-m", "immich_ml"]

    def environment(self, port: int) -> Mapping[str, str]:
        """Address and cache; networks stay loaded."""
        return {
            "IMMICH_HOST": "127.0.0.1",
            "IMMICH_PORT": str(port),
            "MACHINE_LEARNING_CACHE_FOLDER": str(self.folder / "cache"),
            "MACHINE_LEARNING_MODEL_TTL": "0",
            "HF_HUB_OFFLINE": "1",
        }

    def version(self) -> str:
        """Of its `pyproject.toml`."""
        return project_version(self.source / "machine-learning" / "pyproject.toml")

    def request(self, photo: bytes) -> Request:
        """A form with the stages; faces from the confidence that the others ask for."""
        stages = {
            "detection": {"modelName": _PACK, "options": {"minScore": 0.5}},
            "recognition": {"modelName": _PACK, "options": {}},
        }
        entries = json.dumps({"facial-recognition": stages})
        return Request("/predict", *form({"entries": entries}, photo))

    def faces(self, answer: bytes) -> int:
        """Of `facial-recognition`."""
        found: list[dict[str, Any]] = json.loads(answer)["facial-recognition"]
        return sum(len(face["embedding"]) > 0 for face in found)
