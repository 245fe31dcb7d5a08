"""Version folders of the model repository and the sidecar beside each network.

Triton polls the repository while this writes. A version is therefore written into a folder
whose name is no number, which Triton passes over, and renamed when all of it is on the disk.
(A poll in between loads the version in service once more, as for any change in a stage's folder.)
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson

from gateway.durable_files import sync_path, write_synced
from tools.errors import WeightsError
from tools.registry.prepared import Prepared, Quantization
from triton_python_backend.contract import format_id, parse_id

MODEL_FILE: Final = "model.onnx"
METADATA_FILE: Final = "model.json"
CONFIG_FILE: Final = "config.pbtxt"
Reserved = Callable[[str], Collection[int]]
"""Given a stage: numbers of versions that lie elsewhere, which new versions do not take."""
INCOMING_PREFIX: Final = ".incoming-"
"""Begins the names of folders that are being written."""


@dataclass(frozen=True, slots=True)
class Source:
    """The file that a version was made from: its name and SHA-256."""

    file: str
    sha256: str


@dataclass(frozen=True, slots=True)
class VersionMetadata:
    """What `model.json` says about the `model.onnx` beside it."""

    stage: str
    version: int
    sha256: str
    """Of model.onnx, hexadecimal."""
    id: str
    """What the stage's id output answers, as `format_id` writes it."""
    source: Source
    network: str
    dimension: int | None
    """Width of embeddings that come out (embedding) or go in (scoring)."""
    space: str | None
    """Of a scoring head: the id of the space that it was trained in."""
    licence: str | None
    """None where it is not known."""
    imported_at: str
    """ISO 8601, UTC."""
    lighter: Quantization | None = None
    """Of a network in 8 or 16 bits; sidecars of float ones may lack it."""
    second_look: Mapping[str, Any] | None = None
    """Of a detector: the confidences below which it is called again, as they were measured."""


def versions(stage: Path) -> list[int]:
    """List the version numbers of a stage that hold a network, ascending."""
    found = [
        int(folder.name)
        for folder in stage.glob("[1-9]*")
        if folder.name.isdecimal() and (folder / MODEL_FILE).is_file()
    ]
    return sorted(found)


def newest_metadata(stage: Path) -> VersionMetadata | None:
    """Read the sidecar of the version in service, the highest; None if there is no version.

    Raises:
        WeightsError: if that version has no readable sidecar.
    """
    found = versions(stage)
    return read_version_metadata(stage / str(found[-1]) / METADATA_FILE) if found else None


def read_version_metadata(path: Path) -> VersionMetadata:
    """Read a `model.json`.

    Raises:
        WeightsError: if it is missing or does not have exactly a sidecar's fields.
    """
    try:
        fields = orjson.loads(path.read_bytes())
        source = Source(**fields["source"])
        light = fields.get("lighter")
        parts = {"source": source, "lighter": None if light is None else Quantization(**light)}
        return VersionMetadata(**{**fields, **parts})
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error
    except (orjson.JSONDecodeError, TypeError, KeyError) as error:
        raise WeightsError(f"{path} is no sidecar of a model: {error}") from error


def place(
    prepared: Sequence[Prepared],
    *,
    repository: Path,
    version: int | None = None,
    licence: str | None = None,
    reserved: Reserved = lambda _: (),
    version_store: Path | None = None,
) -> list[VersionMetadata]:
    """Put each prepared graph into service as a new version: all of them, or none.

    Args:
        prepared: one graph per stage.
        repository: the folder that Triton serves.
        version: the number for all of them; unset, each stage's next free one.
        licence: under which the weights may be used.
        reserved: numbers that are not chosen, though they are free here.
        version_store: a folder of stages in which the versions are placed instead, out of service.

    Raises:
        WeightsError: if the repository lacks a stage, the version exists or is older than the
            one in service, or the disk refuses.
    """
    numbers = [_choose(repository / item.stage, version, reserved(item.stage)) for item in prepared]
    pairs = list(zip(prepared, numbers, strict=True))
    root = repository if version_store is None else version_store
    stages = [root / item.stage for item in prepared]
    try:
        for stage in stages:
            stage.mkdir(parents=True, exist_ok=True)
        with _incoming(stages) as folders:
            placed = [
                _write(folder, item, version=number, licence=licence)
                for folder, (item, number) in zip(folders, pairs, strict=True)
            ]
            targets = [root / item.stage / str(number) for item, number in pairs]
            _rename_all(folders, targets)
    except OSError as error:
        raise WeightsError(f"{error.filename or repository}: {error.strerror}") from error
    return placed


def _choose(stage: Path, version: int | None, reserved: Collection[int]) -> int:
    if not (stage / CONFIG_FILE).is_file():
        raise WeightsError(f"{stage} is no stage of a model repository: it has no {CONFIG_FILE}")
    taken = [int(entry.name) for entry in stage.iterdir() if entry.name.isdecimal()]
    if version is None:
        return max([*taken, *reserved], default=0) + 1
    if version < 1:
        raise WeightsError(f"a version is a number from 1, not {version}")
    if version in taken:
        raise WeightsError(f"{stage / str(version)} exists already; choose another version")
    return version


@contextmanager
def _incoming(stages: Sequence[Path]) -> Iterator[list[Path]]:
    # inside the stage's folder, so that a rename never crosses file systems
    folders: list[Path] = []
    try:
        for stage in stages:
            folder = Path(tempfile.mkdtemp(prefix=INCOMING_PREFIX, dir=stage))
            folders.append(folder)
            # Triton may run as another user
            folder.chmod(0o755)
        yield folders
    finally:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


def _write(folder: Path, item: Prepared, *, version: int, licence: str | None) -> VersionMetadata:
    metadata = VersionMetadata(
        stage=item.stage,
        version=version,
        sha256=hashlib.sha256(item.graph).hexdigest(),
        id=format_id(item.identity),
        source=Source(item.source.name, item.source_sha256),
        network=item.network,
        dimension=item.dimension,
        space=None if item.space is None else format_id(item.space),
        licence=licence or item.licence,
        imported_at=datetime.now(UTC).isoformat(timespec="seconds"),
        lighter=item.lighter,
        second_look=item.second_look,
    )
    write_synced(folder / MODEL_FILE, item.graph)
    text = orjson.dumps(asdict(metadata), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    write_synced(folder / METADATA_FILE, text)
    sync_path(folder)
    return metadata


def _rename_all(folders: Sequence[Path], targets: Sequence[Path]) -> None:
    done: list[tuple[Path, Path]] = []
    try:
        for folder, target in zip(folders, targets, strict=True):
            # fails where a folder with files has appeared meanwhile
            folder.rename(target)
            done.append((folder, target))
        for target in targets:
            sync_path(target.parent)
    except BaseException:
        # also on Ctrl-C: what was placed goes back and is removed with its incoming folder
        for folder, target in done:
            target.rename(folder)
        raise


def place_beside(path: Path, text: str) -> None:
    """Write a small file into a version folder in one step.

    Triton sees that the folder changed, and loads the version once more beside the one in service.
    """
    # written outside of the version folder, where Triton does not look
    part = path.parent.with_name(f".{path.parent.name}.{path.name}")
    part.write_text(text)
    os.replace(part, path)


def space_of(metadata: VersionMetadata) -> int:
    """Read the id that an embedding's sidecar names, as its graph answers it."""
    return parse_id(metadata.id)
