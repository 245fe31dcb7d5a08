"""First weights of an empty repository, from the folder AURUM_MODEL_MIRROR."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.errors import ConfigurationError
from tools.errors import WeightsError
from tools.importing.importer import Order, Progress, import_weights
from tools.registry.repository import VersionMetadata, versions
from triton_python_backend.contract import DETECTION, EMBEDDING_STAGE, SCORING, Stage


@dataclass(frozen=True, slots=True)
class Starter:
    """A file that the first start searches for."""

    stage: Stage
    name: str
    sha256: str
    licence: str | None


STARTERS: Final = (
    Starter(
        DETECTION,
        "det_500m.onnx",
        "5e4447f50245bbd7966bd6c0fa52938c61474a04ec7def48753668a9d8b4ea3a",
        "insightface buffalo_s: non-commercial research",
    ),
    Starter(
        EMBEDDING_STAGE,
        "mobilefacenet_arcface_128.onnx",
        "0c9ad2a83969fc82155706f7020e6926b4a1a90a5476fff4a5588dfe207f64a4",
        None,
    ),
)

STARTER_HEAD: Final = Path(__file__).with_name("starter_head.onnx")
"""The scoring head that this project trained on the starters' embedding; its model card is
docs/models/face_scoring_teacher.md."""
STARTER_SPACE: Final = "76bde4f6aaa31807"
"""The space of that embedding: in any other one the head outputs NaN."""

_HOW: Final = (
    "put {names} into a folder, set AURUM_MODEL_MIRROR to it and start again; or import weights "
    "of your own: aurum models import --detection FILE --embedding FILE --scoring FILE"
)


def find_starter_weights(mirror: Path) -> dict[str, Path]:
    """Find the starters in a folder: path by stage name.

    Raises:
        WeightsError: if a file has a starter's name but different bytes.
    """
    found = {}
    for starter in STARTERS:
        path = mirror / starter.name
        if not path.is_file():
            continue
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest != starter.sha256:
            raise WeightsError(
                f"{path} has the SHA-256 {digest}, not {starter.sha256}: the copy is damaged or it "
                "is another network"
            )
        found[starter.stage.name] = path
    return found


def import_missing(
    repository: Path,
    mirror: str | None,
    *,
    head: Path | None = None,
    progress: Progress = lambda _: None,
) -> list[VersionMetadata]:
    """Import weights for each stage without a version; other stages stay unchanged.

    Args:
        repository: the folder that Triton serves.
        mirror: the folder with weights, as `AURUM_MODEL_MIRROR` names it.
        head: a scoring head to import if its stage has no version.
        progress: called with a description of each step.

    Returns:
        The new versions; empty if every stage had weights.

    Raises:
        ConfigurationError: if weights are missing and not found; the text says how to get them.
    """
    missing = [item for item in STARTERS if not versions(repository / item.stage.name)]
    placed: list[VersionMetadata] = []
    try:
        found = find_starter_weights(_folder(mirror)) if missing and mirror else {}
        lacking = [item for item in missing if item.stage.name not in found]
        if lacking:
            raise ConfigurationError(_explain(lacking, repository, mirror))
        for item in missing:
            path = found[item.stage.name]
            order = Order(
                detection=path if item.stage is DETECTION else None,
                embedding=path if item.stage is EMBEDDING_STAGE else None,
                licence=item.licence,
            )
            placed += import_weights(order, repository, progress)
        if head is not None and not versions(repository / SCORING.name):
            placed += import_weights(Order(scoring=head, space=STARTER_SPACE), repository, progress)
    except WeightsError as error:
        raise ConfigurationError(f"AURUM_MODEL_MIRROR={mirror}: {error}") from error
    return placed


def _folder(mirror: str) -> Path:
    folder = Path(mirror)
    if not folder.is_dir():
        raise ConfigurationError(f"AURUM_MODEL_MIRROR={mirror} is no folder")
    return folder


def _explain(lacking: list[Starter], repository: Path, mirror: str | None) -> str:
    stages = " and ".join(item.stage.name for item in lacking)
    names = " and ".join(item.name for item in lacking)
    where = (
        f"AURUM_MODEL_MIRROR={mirror} has no {names}"
        if mirror
        else ("AURUM_MODEL_MIRROR is not set")
    )
    return f"{repository} has no weights for {stages}, and {where}: {_HOW.format(names=names)}"
