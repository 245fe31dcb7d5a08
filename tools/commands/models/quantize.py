"""What `aurum models import --int8` and `--fp16` ask for and print."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from tools.commands.models.common import Context
from tools.errors import WeightsError
from tools.quantization.quantize import Precision, Quantizer
from tools.registry.prepared import Prepared
from tools.registry.repository import MODEL_FILE, SIDECAR_FILE, ModelCard, read_version_metadata
from triton_python_backend.contract import DETECTION, EMBEDDING_STAGE, parse_id

CalibrationPhotos = Annotated[
    Path | None,
    typer.Option(help="Folder or tar file of photos to calibrate with and measure on."),
]


def quantizer(
    context: Context, *, int8: bool, fp16: bool, photos: Path | None, keep_space: bool
) -> Quantizer | None:
    """Read the options; None if the weights stay in float.

    Raises:
        WeightsError: if the options contradict each other.
    """
    if int8 and fp16:
        raise WeightsError("--int8 and --fp16 exclude each other")
    if not int8 and not fp16:
        if photos is not None:
            raise WeightsError("--calibration-photos serves --int8 and --fp16 only")
        return None
    precision: Precision = "int8" if int8 else "fp16"
    return Quantizer(
        precision=precision,
        photos=photos,
        detector=lambda: _detector_in_service(context),
        keep_space=keep_space,
    )


def in_service(context: Context, *, same_space: int | None) -> tuple[Prepared, ...]:
    """Read the float networks that serve detection and embedding, to be made lighter.

    Raises:
        WeightsError: if there is none, or the newest of a stage is a lighter one.
    """
    found = []
    for stage in (DETECTION.name, EMBEDDING_STAGE.name):
        version = context.version_store.newest(stage)
        if version is None:
            continue
        folder = context.version_store.placed(stage, version)
        card = read_version_metadata(folder / SIDECAR_FILE)
        if card.lighter is not None:
            raise WeightsError(f"{stage} {version} is {card.lighter.precision} already")
        identity = parse_id(card.id)
        if stage == EMBEDDING_STAGE.name and same_space is not None:
            identity = same_space
        found.append(
            Prepared(
                stage=stage,
                graph=(folder / MODEL_FILE).read_bytes(),
                identity=identity,
                source=Path(card.source.file),
                source_sha256=card.source.sha256,
                network=card.network,
                dimension=card.dimension,
                licence=card.licence,
            )
        )
    if not found:
        raise WeightsError("no network is in service that could be made lighter")
    return tuple(found)


def show_accuracy(context: Context, cards: list[ModelCard]) -> None:
    """Print what lighter networks cost in accuracy; nothing if all are in float."""
    light = [(card, card.lighter) for card in cards if card.lighter is not None]
    if not light:
        return
    table = Table("stage", "measure", "value", title="beside the float network")
    for card, found in light:
        table.add_row(card.stage, "layers in float", f"{found.in_float} of {found.layers}")
        for name, number in found.accuracy.items():
            shown = str(number) if isinstance(number, int) else f"{number:.4f}"
            table.add_row("", name.replace("_", " "), shown)
        table.add_row("", "measured on", found.samples)
    context.out.print(table)


def _detector_in_service(context: Context) -> tuple[bytes, Path]:
    version_store, stage = context.version_store, DETECTION.name
    version = version_store.newest(stage)
    if version is None:
        raise WeightsError("no detector is in service to find the faces of --calibration-photos")
    path = version_store.placed(stage, version) / MODEL_FILE
    return path.read_bytes(), path
