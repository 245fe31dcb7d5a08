"""`models.json`, typed. `models.schema.json` beside it is made from these classes."""

import hashlib
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, ValidationError, model_validator

from tools.errors import PackError
from triton_python_backend.contract import ONNX_STAGES

BUILT_IN_VERSION: Final = 1
BUILT_IN_FILE: Final = "model.onnx"
MANIFEST: Final = Path(__file__).with_name("models.json")

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]


class _Shape(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Preprocessing(_Shape):
    """What pixels 0-255 become before the network: (x - mean) / std."""

    colour: Literal["RGB"]
    mean: float
    std: float = Field(gt=0)


class PackFile(_Shape):
    """A network of a pack."""

    name: FileName
    """In the archive, in whatever folder of it; built in: in version 1 of its stage."""
    stage: Literal["face_detection", "face_embedding", "face_scoring"]
    bytes: int | None = Field(gt=0)
    """Null: not known."""
    sha256: Sha256 | None
    """Null: not known; then that of the archive must be."""
    preprocessing: Preprocessing | None
    """Null: the file takes what the stage takes, all of it is in the graph."""


class Archive(_Shape):
    """The zip file that holds a pack."""

    url: HttpUrl
    bytes: int | None = Field(gt=0)
    """Null: not known."""
    sha256: Sha256 | None
    """Null: not known; then those of all files must be."""


class Pack(_Shape):
    """Networks that are used together."""

    name: FileName
    description: str
    licence: str
    commercial_use: bool
    archive: Archive | None
    """Null: built in."""
    files: tuple[PackFile, ...]

    @property
    def bytes(self) -> int | None:
        """What is downloaded, or in the clone; None where it is not known before."""
        if self.archive is not None:
            return self.archive.bytes
        sizes = [file.bytes for file in self.files]
        return sum(size for size in sizes if size) if all(sizes) else None

    @model_validator(mode="after")
    def _everything_can_be_checked(self) -> "Pack":
        if self.archive is None:
            return self
        unknown = [file.name for file in self.files if file.sha256 is None]
        if self.archive.sha256 is None and unknown:
            message = f"no digest covers {', '.join(unknown)}"
            raise ValueError(message)
        return self


class Manifest(_Shape):
    """All packs."""

    schema_version: Literal[1]
    packs: tuple[Pack, ...]

    def pack(self, name: str) -> Pack:
        """Find a pack; raises PackError naming those there are."""
        for pack in self.packs:
            if pack.name == name:
                return pack
        known = ", ".join(pack.name for pack in self.packs)
        raise PackError(f"there is no pack {name!r}; there are {known}")


def built_in_files(repository: Path) -> tuple[PackFile, ...]:
    """Describe version 1 of each ONNX stage of a repository; raises PackError without one."""

    def describe(stage: str) -> PackFile:
        path = repository / stage / str(BUILT_IN_VERSION) / BUILT_IN_FILE
        try:
            data = path.read_bytes()
        except OSError as error:
            raise PackError(f"{path} cannot be read: {error.strerror}") from error
        fields = {"name": path.name, "stage": stage, "preprocessing": None}
        digest = hashlib.sha256(data).hexdigest()
        return PackFile.model_validate({**fields, "bytes": len(data), "sha256": digest})

    return tuple(describe(stage.name) for stage in ONNX_STAGES)


def refresh_built_in(repository: Path, path: Path = MANIFEST) -> None:
    """Write sizes and digests of the built-in networks into a manifest."""
    files = built_in_files(repository)
    manifest = load_manifest(path)
    packs = tuple(
        pack if pack.archive is not None else pack.model_copy(update={"files": files})
        for pack in manifest.packs
    )
    changed = manifest.model_copy(update={"packs": packs})
    path.write_text(changed.model_dump_json(indent=2) + "\n")


def load_manifest(path: Path = MANIFEST) -> Manifest:
    """Read a manifest; raises PackError saying what is wrong with it."""
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise PackError(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise PackError(f"{path}: {where}: {first['msg']}") from error
