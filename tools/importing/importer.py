"""From files that a model owner has to versions that Triton serves."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.errors import WeightsError
from tools.importing.network import Network, load_network
from tools.importing.stages import arcface, head, scrfd
from tools.importing.stages.arcface import Normalisation
from tools.registry.prepared import Prepared
from tools.registry.repository import (
    SIDECAR_FILE,
    ModelCard,
    Reserved,
    newest_card,
    place,
    read_version_metadata,
    space_of,
)
from triton_python_backend.contract import (
    DETECTION,
    EMBEDDING_STAGE,
    SCORING,
    format_id,
    parse_id,
)

ACTIVE: Final = "active"
"""Says that a head was trained in the space of the embedding in service."""

Progress = Callable[[str], None]
"""Told what is being done."""

Quantize = Callable[[Prepared], Prepared]
"""Makes a lighter graph of a float one; raises WeightsError if too much is lost."""

Examine = Callable[[Sequence[Prepared]], None]
"""Sees all that is ready before any of it is placed; raises WeightsError to refuse it."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to import; at least one file."""

    detection: Path | None = None
    embedding: Path | None = None
    scoring: Path | None = None
    version: int | None = None
    """Number for all files; unset, each stage's next free one."""
    space: str | None = None
    """The space a head was trained in: 16 hexadecimal digits, the number of a version of the
    embedding, or `active`. Unset: what the head's file says, else the embedding of this order,
    else `active`."""
    normalisation: Normalisation | None = None
    """Of the embedding network; unset, found as insightface does."""
    licence: str | None = None
    finished: tuple[Prepared, ...] = ()
    """Graphs of versions in service, to be made lighter; with no files beside them."""
    same_space: int | None = None
    """The id of a space that the embedding shall take over, being a re-export of its weights."""

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages that get a version."""
        files = {
            DETECTION.name: self.detection,
            EMBEDDING_STAGE.name: self.embedding,
            SCORING.name: self.scoring,
        }
        named = (stage for stage, file in files.items() if file is not None)
        return (*named, *(item.stage for item in self.finished))


def as_it_is(item: Prepared) -> Prepared:
    """Leave a graph in float."""
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
) -> list[ModelCard]:
    """Check every file, then place all of them.

    Args:
        order: the files.
        repository: the folder that Triton serves.
        progress: told what is being done.
        reserved: numbers of versions that are not to be given again.
        quantize: what to do with detection and embedding before the last look.
        examine: a last look at the finished graphs.
        version_store: a folder of stages in which the versions are placed instead, out of service.

    Raises:
        WeightsError: if a file is refused; then nothing is placed.
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


def _space_of_head(
    order: Order, network: Network, embedding: Prepared | None, repository: Path
) -> tuple[int, int | None]:
    stage = repository / EMBEDDING_STAGE.name
    told = order.space or network.metadata(head.SPACE_PROPERTY)
    if told is None and embedding is not None:
        return embedding.identity, embedding.dimension
    if told is None or told == ACTIVE:
        card = newest_card(stage)
        if card is None:
            raise WeightsError(
                f"{network.path}: import an embedding first or with it, or name the space that "
                "the head was trained in with --space"
            )
        return space_of(card), card.dimension
    if told.isdecimal() and len(told) < 16:
        card = read_version_metadata(stage / told / SIDECAR_FILE)
        return space_of(card), card.dimension
    try:
        space = parse_id(told)
    except ValueError as error:
        raise WeightsError(f"{told!r} names no space: {error}") from error
    return space, _known_dimension(space, embedding, stage)


def _known_dimension(space: int, embedding: Prepared | None, stage: Path) -> int | None:
    if embedding is not None and embedding.identity == space:
        return embedding.dimension
    sidecars = [
        read_version_metadata(path) for path in sorted(stage.glob(f"[1-9]*/{SIDECAR_FILE}"))
    ]
    return next((card.dimension for card in sidecars if card.id == format_id(space)), None)
