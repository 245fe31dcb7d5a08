"""InsightFace Server: folder `server/` of github.com/deepinsight/insightface."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final

from benchmarks.peers.peer import Peer, project_version
from benchmarks.peers.service import Networks, NotRunError, Request, form

_PACK: Final = "buffalo_sc"
"""The pack that det_500m comes from; its licence for research lies in the checkout."""


class InsightFaceServer(Peer):
    """`POST /v1/embeddings`, which answers the largest face.

    Its server asks for a signed licence of the pack that its manifest names. The checkout has one
    for `buffalo_sc` (non-commercial research), the pack of det_500m; the embedder is another one.
    """

    name: ClassVar[str] = "InsightFace Server"
    work: ClassVar[str] = "detector on 96 and 512 pixels, embeddings of all faces, answers one"
    answers_all: ClassVar[bool] = False
    checkout: ClassVar[str] = "insightface"
    repository: ClassVar[str] = "github.com/deepinsight/insightface, server/"
    marker: ClassVar[str] = "server/backend/insightface_server"

    def packages(self) -> list[list[str]]:
        """Its lock file; insightface from the checkout as in its image, else the package."""
        lock = ["-r", str(self.source / "server" / "requirements.cpu.lock")]
        return [lock] if self._library.is_dir() else [lock, ["--no-deps", "insightface"]]

    def place(self, networks: Networks) -> None:
        """A manifest, both networks and the licence in one folder."""
        models = self.folder / "models"
        shutil.rmtree(models, ignore_errors=True)
        models.mkdir(parents=True)
        # it follows links and refuses what they lead to outside of the folder
        shutil.copyfile(networks.detector, models / networks.detector.name)
        shutil.copyfile(networks.embedder, models / networks.embedder.name)
        package = self.source / "server" / "backend" / "insightface_server"
        licence = package / "licensing" / "defaults" / _PACK / "MODEL.LICENSE"
        if not licence.is_file():
            raise NotRunError(f"its checkout has no {licence.name} for {_PACK}")
        shutil.copyfile(licence, models / licence.name)
        manifest = {
            "manifest_version": 1,
            "model_id": _PACK,
            "model_version": "benchmark",
            "files": {"detector": networks.detector.name, "recognizer": networks.embedder.name},
            "recognition": {
                "input_size": [112, 112],
                "embedding_dimension": networks.dimension,
                "preprocessing": "insightface-arcface-1",
            },
            "license": licence.name,
        }
        (models / "manifest.json").write_text(json.dumps(manifest))

    def command(self, port: int) -> list[str]:
        """The command of its image."""
        address = ["--host", "127.0.0.1", "--port", str(port), "--no-access-log"]
        return [str(self.python), "-m", "uvicorn", "insightface_server.app:app", *address]

    def environment(self, port: int) -> Mapping[str, str]:
        """That of its image, with the search in Python: its native one is not built or used."""
        backend = str(self.source / "server" / "backend")
        path = f"{backend}:{self._library.parent}" if self._library.is_dir() else backend
        return {
            "PYTHONPATH": path,
            "INSIGHTFACE_DATA_DIR": str(self.folder / "data"),
            "INSIGHTFACE_MODELS_DIR": str(self.folder / "models"),
            "INSIGHTFACE_CONFIG_FILE": str(self.source / "server" / "config" / "server.toml"),
            "INSIGHTFACE_AUTH_ENABLED": "false",
            "INSIGHTFACE_SEARCH_BACKEND": "reference",
        }

    def version(self) -> str:
        """Of its `pyproject.toml`."""
        return project_version(self.source / "server" / "pyproject.toml")

    def request(self, photo: bytes) -> Request:
        """A form."""
        return Request("/v1/embeddings", *form({}, photo))

    def faces(self, answer: bytes) -> int:
        """Of `faces`."""
        return sum(len(face["embedding"]) > 0 for face in json.loads(answer)["faces"])

    @property
    def _library(self) -> Path:
        return self.source / "python-package" / "insightface"
