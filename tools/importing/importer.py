"""Import files of networks as versions that Triton serves."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tools.errors import WeightsError
from tools.importing.network import Network, load_network
from tools.importing.stages import arcface, further, head, scrfd
from tools.importing.stages.arcface import Normalisation
from tools.registry.prepared import Prepared
from tools.registry.repository import (
    METADATA_FILE,
    Reserved,
    VersionMetadata,
    newest_metadata,
    place,
    read_version_metadata,
    space_of,
)
from triton_python_backend.contract import (
    DETECTION,
    EMBEDDING_STAGE,
    ONNX_STAGES,
    SCORING,
    format_id,
    parse_id,
)

ACTIVE: Final = "active"
"""Value of `space` for a head trained on the active embedding."""

Progress = Callable[[str], None]
"""Called with a description of each step."""

Quantize = Callable[[Prepared], Prepared]
"""Quantizes a float graph; raises WeightsError if it loses too much accuracy."""

Examine = Callable[[Sequence[Prepared]], None]
"""Called with all prepared graphs before any is placed; raises WeightsError to reject them."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to import; at least one file."""

    detection: Path | None = None
    embedding: Path | None = None
    scoring: Path | None = None
    further: Mapping[str, Path] = field(default_factory=dict)
    """Files of further stages, by stage name."""
    version: int | None = None
    """Version number for all files; unset: each stage's next free one."""
    space: str | None = None
    """The space a head was trained in: 16 hexadecimal digits, the version number of an embedding,
    or `active`. Unset: the space named in the head's file, else the embedding of this order, else
    `active`."""
    normalisation: Normalisation | None = None
    """Input normalisation of the embedding network; unset: detected as in insightface."""
    licence: str | None = None
    finished: tuple[Prepared, ...] = ()
    """Graphs of existing versions to quantize; not together with files."""
    same_space: int | None = None
    """Id of the space that the embedding keeps, as a re-export of the same weights."""

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages that get a new version."""
        files = {
            DETECTION.name: self.detection,
            EMBEDDING_STAGE.name: self.embedding,
            SCORING.name: self.scoring,
            **self.further,
        }
        named = (stage.name for stage in ONNX_STAGES if files.get(stage.name) is not None)
        return (*named, *(item.stage for item in self.finished))


def as_it_is(item: Prepared) -> Prepared:
    """Keep a graph in float."""
    return item


def import_weights(
    order: Order,
    repository: Path,
    progress: Progress = lambda _: None,
    *,
    reserved: Reserved = lambda _: (),
    quantize: Quantize = as_it_is,
    examine: Examine = lambda _: None,
    version_store: Path | None = None,
) -> list[VersionMetadata]:
    """Check every file, then place all of them.

    Args:
        order: the files.
        repository: the folder that Triton serves.
        progress: called with a description of each step.
        reserved: version numbers that must not be reused.
        quantize: quantizes the graphs of detection and embedding.
        examine: checks the finished graphs.
        version_store: if given, versions are placed in this folder instead, out of service.

    Raises:
        WeightsError: if a file is rejected; then nothing is placed.
    """
    prepared = [quantize(item) for item in order.finished]
    embedding: Prepared | None = None
    if order.detection is not None:
        progress(f"checking {order.detection}")
        prepared.append(quantize(scrfd.prepare(load_network(order.detection))))
    if order.embedding is not None:
        progress(f"checking {order.embedding}")
        embedding = quantize(
            arcface.prepare(
                load_network(order.embedding), order.normalisation, space=order.same_space
            )
        )
        prepared.append(embedding)
    if order.scoring is not None:
        progress(f"checking {order.scoring}")
        network = load_network(order.scoring)
        head.require_head(network)
        space, dimension = _space_of_head(order, network, embedding, repository)
        prepared.append(head.prepare(network, space=space, dimension=dimension))
    for stage, path in order.further.items():
        progress(f"checking {path}")
        prepared.append(further.prepare(stage, load_network(path)))
    if not prepared:
        raise WeightsError("no file given: name one for detection, embedding or scoring")
    examine(prepared)
    progress("placing")
    return place(
        prepared,
        repository=repository,
        version=order.version,
        licence=order.licence,
        reserved=reserved,
        version_store=version_store,
    )


def option_for(stage: str) -> str:
    """Return the option of `aurum models import` for a stage's file."""
    (found,) = (each for each in ONNX_STAGES if each.name == stage)
    named = found in (DETECTION, EMBEDDING_STAGE, SCORING)
    return f"--{found.short_name} FILE" if named else f"--network {found.short_name}=FILE"


def _space_of_head(
    order: Order, network: Network, embedding: Prepared | None, repository: Path
) -> tuple[int, int | None]:
    stage = repository / EMBEDDING_STAGE.name
    named = order.space or network.metadata(head.SPACE_PROPERTY)
    if named is None and embedding is not None:
        return embedding.identity, embedding.dimension
    if named is None or named == ACTIVE:
        metadata = newest_metadata(stage)
        if metadata is None:
            raise WeightsError(
                f"{network.path}: import an embedding first or with it, or name the space that "
                "the head was trained in with --space"
            )
        return space_of(metadata), metadata.dimension
    if named.isdecimal() and len(named) < 16:
        metadata = read_version_metadata(stage / named / METADATA_FILE)
        return space_of(metadata), metadata.dimension
    try:
        space = parse_id(named)
    except ValueError as error:
        raise WeightsError(f"{named!r} names no space: {error}") from error
    return space, _known_dimension(space, embedding, stage)


def _known_dimension(space: int, embedding: Prepared | None, stage: Path) -> int | None:
    if embedding is not None and embedding.identity == space:
        return embedding.dimension
    sidecars = [
        read_version_metadata(path) for path in sorted(stage.glob(f"[1-9]*/{METADATA_FILE}"))
    ]
    return next(
        (metadata.dimension for metadata in sidecars if metadata.id == format_id(space)), None
    )
