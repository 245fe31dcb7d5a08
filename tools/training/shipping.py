"""Make trained networks the built-in ones: version 1 of the project's own repository."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from gateway.registry.calibration import CALIBRATION_FILE
from gateway.registry.reference import REFERENCE_FILE
from tools.errors import WeightsError
from tools.importing.importer import Order, import_weights
from tools.registry.repository import METADATA_FILE, MODEL_FILE, VersionMetadata

LICENCE = "research, non-commercial use only; see docs/models"


def ship(order: Order, repository: Path) -> list[VersionMetadata]:
    """Replace version 1 of the stages in `order`, in a repository that is not being served.

    Raises:
        WeightsError: if a file is rejected, or an embedding comes without a head trained on it;
            then nothing is replaced.
    """
    if order.embedding is not None and order.scoring is None:
        raise WeightsError("a new embedding is a new space: ship a scoring head for it, too")
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / repository.name
        shutil.copytree(repository, trial)
        for stage in order.stages:
            for version in (trial / stage).glob("[0-9]*"):
                shutil.rmtree(version)
        cards = import_weights(replace(order, version=1, licence=LICENCE), trial)
        for card in cards:
            source, target = (root / card.stage / "1" for root in (trial, repository))
            for name in (MODEL_FILE, METADATA_FILE):
                shutil.copyfile(source / name, target / name)
            for name in (CALIBRATION_FILE, REFERENCE_FILE):
                # measured on the previous weights
                (target / name).unlink(missing_ok=True)
    return cards
