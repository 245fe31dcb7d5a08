"""The metadata that the importer writes beside the weights of a version."""

import logging
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

log = logging.getLogger(__name__)

SIDECAR: Final = "model.json"


class Source(BaseModel):
    """The file that was imported."""

    model_config = ConfigDict(frozen=True)

    file: str | None = None
    sha256: str | None = None


class VersionMetadata(BaseModel):
    """Origin of one version of a stage. Every key may be missing: folders may be placed by hand."""

    model_config = ConfigDict(frozen=True)

    id: str | None = None
    sha256: str | None = None
    source: Source | None = None
    network: str | None = None
    dimension: int | None = None
    space: str | None = None
    licence: str | None = None
    imported_at: str | None = None


def read_version_metadata(repository: Path, stage: str, version: str) -> VersionMetadata | None:
    """Read `<repository>/<stage>/<version>/model.json`; None if it is missing or malformed."""
    path = repository / stage / version / SIDECAR
    try:
        return VersionMetadata.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        log.warning("sidecar not readable", extra={"path": str(path), "reason": str(error)})
        return None
