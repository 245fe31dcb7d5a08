"""The golden set, as the commands run it: before anything is placed or activated."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.errors import LifecycleError, WeightsError
from tools.golden.answers import answer
from tools.golden.check import SAME_COSINE, check_golden, cosine
from tools.registry.dry_run import check_version
from tools.registry.prepared import Prepared
from tools.registry.repository import MODEL_FILE, SIDECAR_FILE, ModelCard, read_version_metadata
from tools.registry.version_store import VersionStore
from tools.registry.view import card_of
from triton_python_backend.contract import EMBEDDING_STAGE, format_id

STAGE = EMBEDDING_STAGE.name


@dataclass(frozen=True, slots=True)
class Original:
    """The version whose space a re-export shall take over."""

    card: ModelCard
    graph: bytes
    path: Path


def original(version_store: VersionStore, version: int) -> Original:
    """Find an embedding version, in the repository or kept; raises LifecycleError without one."""
    for folder in (version_store.placed(STAGE, version), version_store.kept(STAGE, version)):
        if (folder / MODEL_FILE).is_file():
            path = folder / MODEL_FILE
            return Original(read_version_metadata(folder / SIDECAR_FILE), path.read_bytes(), path)
    raise LifecycleError(f"{STAGE} has no version {version} whose space could be taken over")


def examine(same: Original | None) -> Callable[[Sequence[Prepared]], None]:
    """Make the last look of an import: the golden set, and the proof of a re-export."""

    def look(prepared: Sequence[Prepared]) -> None:
        for item in prepared:
            space = None if item.space is None else format_id(item.space)
            if item.stage == STAGE and same is not None:
                _prove_same_space(item, same)
                continue
            check_golden(item.stage, item.graph, item.source, space=space, width=item.dimension)

    return look


def check_before_service(stage: str, folder: Path) -> None:
    """Check a version as `check_version` does, then run the golden set on it.

    Raises:
        LifecycleError: if anything is wrong with it.
    """
    check_version(stage, folder)
    card = card_of(folder / SIDECAR_FILE)
    if card is None:
        return
    path = folder / MODEL_FILE
    try:
        check_golden(stage, path.read_bytes(), path, space=card.space, width=card.dimension)
    except WeightsError as error:
        raise LifecycleError(str(error)) from error


def _prove_same_space(item: Prepared, same: Original) -> None:
    found = answer(STAGE, item.graph, item.source, space=None, width=None)
    wanted = answer(STAGE, same.graph, same.path, space=None, width=None)
    measured = cosine(found.values, wanted.values)
    if measured < SAME_COSINE:
        raise WeightsError(
            f"{item.source} is no re-export of version {same.card.version}: the golden crops come "
            f"out at a cosine of {measured:.4f} to it, {SAME_COSINE} was expected"
        )
