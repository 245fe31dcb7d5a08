"""`aurum models calibrate`: what a threshold means for the embedding in service."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from gateway.registry.calibration import CALIBRATION_FILE, Calibration
from tools.commands.models.common import Context, Repository, opened
from tools.errors import CalibrationError
from tools.evaluation.det_curve import draw_det
from tools.evaluation.embeddings import Embedded, embed_photos
from tools.evaluation.pairs import Pair, read_pairs
from tools.evaluation.rates import measure_rates
from tools.registry.repository import SIDECAR_FILE, place_beside
from tools.registry.view import card_of
from triton_python_backend.contract import EMBEDDING_STAGE

_SHOWN = (0.1, 0.01, 1e-3, 1e-4)
STAGE = EMBEDDING_STAGE.name
Url = Annotated[str | None, typer.Option(help="Gateway; else the one of AURUM_PORT.")]


def calibrate(
    pairs: Annotated[Path, typer.Argument(help="CSV: image_a,image_b,same (1 or 0).")],
    *,
    url: Url = None,
    picture: Annotated[Path, typer.Option(help="Where the DET curve goes.")] = Path("det.png"),
    repository: Repository = None,
) -> None:
    """Measure FMR and FNMR on labelled photos with the running gateway, and keep them."""
    with opened(repository) as context:
        labelled = read_pairs(pairs)
        photos = [photo for pair in labelled for photo in (pair.a, pair.b)]
        address = url or f"http://127.0.0.1:{context.settings.port}"
        with context.errors.status("embedding") as status:
            embedded = embed_photos(
                address, photos, progress=lambda done: status.update(f"embedded {done} photos")
            )
        calibration = _measure(labelled, embedded, pairs)
        folder = _folder(context, embedded.space)
        place_beside(folder / CALIBRATION_FILE, calibration.model_dump_json(indent=2) + "\n")
        draw_det(calibration, picture)
        context.out.print(_table(calibration))
        context.out.print(f"DET curve: {picture}", markup=False)
        if calibration.without_face:
            context.out.print(f"{calibration.without_face} photos show no face; left out")


def _measure(labelled: list[Pair], embedded: Embedded, source: Path) -> Calibration:
    vectors = embedded.vectors
    cosines: dict[bool, list[float]] = {True: [], False: []}
    for pair in labelled:
        if pair.a in vectors and pair.b in vectors:
            cosines[pair.same].append(float(vectors[pair.a] @ vectors[pair.b]))
    if not cosines[True] or not cosines[False]:
        raise CalibrationError(
            f"{source}: {len(cosines[True])} pairs of one person and {len(cosines[False])} of "
            "different people show faces; both kinds are needed"
        )
    return Calibration(
        space=embedded.space,
        source=source.name,
        source_sha256=hashlib.sha256(source.read_bytes()).hexdigest(),
        same_pairs=len(cosines[True]),
        different_pairs=len(cosines[False]),
        without_face=len(embedded.without_face),
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        rates=measure_rates(np.array(cosines[True]), np.array(cosines[False])),
    )


def _folder(context: Context, space: str) -> Path:
    for version in reversed(context.version_store.placed_versions(STAGE)):
        folder = context.version_store.placed(STAGE, version)
        card = card_of(folder / SIDECAR_FILE)
        if card is not None and card.id == space:
            return folder
    raise CalibrationError(
        f"no version of {STAGE} in {context.version_store.repository} makes space {space}"
    )


def _table(calibration: Calibration) -> Table:
    title = (
        f"{calibration.same_pairs} pairs of one person, "
        f"{calibration.different_pairs} of different people"
    )
    table = Table("FMR", "threshold", "FNMR", title=title)
    for fmr in _SHOWN:
        threshold = calibration.threshold_at(fmr)
        if threshold is None:
            table.add_row(f"{fmr:g}", "too few pairs", "")
            continue
        rate = next(rate for rate in calibration.rates if rate.threshold == threshold)
        table.add_row(f"{fmr:g}", f"{threshold:.4f}", f"{rate.fnmr:.4f}")
    return table
