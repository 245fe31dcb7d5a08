"""`aurum models import`: files of weights become new versions."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from tools.commands.models.common import Context, Repository, opened
from tools.commands.models.golden import Original, examine, original
from tools.commands.models.quantize import CalibrationPhotos, in_service, quantizer, show_accuracy
from tools.commands.models.second_look import measuring
from tools.commands.models.waiting import Wait, report_when_served
from tools.errors import LifecycleError, WeightsError
from tools.importing.importer import Order, Quantize, as_it_is, import_weights
from tools.importing.stages.arcface import USUAL, Normalisation
from tools.quantization.quantize import Quantizer
from tools.registry.activation import note_import, refuse_while_tried
from tools.registry.activation import opened as journal_opened
from tools.registry.repository import VersionMetadata, space_of
from tools.registry.version_store import STAGE_NAMES, stage_name


def import_command(
    *,
    detection: Annotated[Path | None, typer.Option(help="SCRFD detector, ONNX.")] = None,
    embedding: Annotated[Path | None, typer.Option(help="ArcFace network, ONNX.")] = None,
    scoring: Annotated[Path | None, typer.Option(help="Scoring head, ONNX.")] = None,
    network: Annotated[
        list[str] | None,
        typer.Option(help="Network of a further stage, ONNX, as STAGE=FILE."),
    ] = None,
    version: Annotated[int | None, typer.Option(help="Version; default the next free one.")] = None,
    repository: Repository = None,
    space: Annotated[
        str | None,
        typer.Option(help="Space the head was trained in: 16 digits, a version, or 'active'."),
    ] = None,
    mean: Annotated[
        float | None, typer.Option(help="The embedding's pixels: (x-mean)/std.")
    ] = None,
    std: Annotated[float | None, typer.Option(help="The embedding's pixels: (x-mean)/std.")] = None,
    licence: Annotated[
        str | None, typer.Option(help="Licence of the weights, for the record.")
    ] = None,
    same_space_as: Annotated[
        int | None,
        typer.Option(help="The embedding is a re-export of this version and takes over its space."),
    ] = None,
    keep: Annotated[
        bool,
        typer.Option(
            "--keep",
            help="Keep it out of service, for a later `activate`, for example with --canary.",
        ),
    ] = False,
    int8: Annotated[
        bool, typer.Option("--int8", help="Quantise detection and embedding to 8 bits.")
    ] = False,
    fp16: Annotated[
        bool, typer.Option("--fp16", help="Detection and embedding in 16-bit floats, for GPUs.")
    ] = False,
    calibration_photos: CalibrationPhotos = None,
    wait: Wait = 30.0,
) -> None:
    """Check weights, prepare them for Triton and place them as new versions: all or none."""
    normalisation = None
    if mean is not None or std is not None:
        normalisation = Normalisation(
            USUAL.mean if mean is None else mean, USUAL.std if std is None else std
        )
    with opened(repository) as context:
        same = None if same_space_as is None else original(context.version_store, same_space_as)
        same_space = None if same is None else space_of(same.metadata)
        lighter = quantizer(
            context,
            int8=int8,
            fp16=fp16,
            photos=calibration_photos,
            keep_space=same is not None,
        )
        if calibration_photos is not None and lighter is None and detection is None:
            raise WeightsError("--calibration-photos serves detectors, --int8 and --fp16 only")
        further = _by_stage(network or [])
        anew = lighter is not None and not any((detection, embedding, scoring, further))
        order = Order(
            detection=detection,
            embedding=embedding,
            scoring=scoring,
            further=further,
            version=version,
            space=space,
            normalisation=normalisation,
            licence=licence,
            finished=in_service(context, same_space=same_space) if anew else (),
            same_space=same_space,
        )
        measure_on = calibration_photos if detection is not None and lighter is None else None
        placed = place(context, order, same=same, lighter=lighter, measure_on=measure_on, keep=keep)
        show(context, placed, title="kept" if keep else "placed")
        show_accuracy(context, placed)
        for new in placed:
            report_when_served(context, new.stage, new.version, seconds=wait)


def place(
    context: Context,
    order: Order,
    *,
    same: Original | None = None,
    lighter: Quantizer | None = None,
    measure_on: Path | None = None,
    keep: bool = False,
) -> list[VersionMetadata]:
    """Import an order and write it into the journal; with `keep`, out of service.

    measure_on: photos that show when a new detector is to be called again.
    """
    version_store = context.version_store
    with journal_opened(version_store), context.errors.status("importing") as status:
        if not keep:
            for stage in order.stages:
                refuse_while_tried(version_store, stage)
        if lighter is not None:
            lighter.progress = status.update
        quantize: Quantize = lighter or as_it_is
        if measure_on is not None:
            quantize = measuring(measure_on, quantize, progress=status.update)
        before = {stage: version_store.newest(stage) for stage in STAGE_NAMES}
        placed = import_weights(
            order,
            version_store.repository,
            lambda text: status.update(text),
            reserved=version_store.kept_versions,
            quantize=quantize,
            examine=examine(same),
            version_store=version_store.kept_folder if keep else None,
        )
        for new in [] if keep else placed:
            note_import(version_store, new.stage, new.version, before=before[new.stage])
    return placed


def _by_stage(options: list[str]) -> dict[str, Path]:
    """Read STAGE=FILE; raises LifecycleError for another form or no stage with versions."""
    found = {}
    for option in options:
        stage, equals, file = option.partition("=")
        if not equals or not file:
            raise LifecycleError(f"--network {option!r}: STAGE=FILE was expected")
        found[stage_name(stage)] = Path(file)
    return found


def show(context: Context, placed: list[VersionMetadata], *, title: str = "placed") -> None:
    """Print what was placed."""
    table = Table(title=title)
    for heading in ("stage", "version", "id"):
        table.add_column(heading, no_wrap=True)
    for heading in ("network", "made from"):
        table.add_column(heading, overflow="fold")
    for new in placed:
        table.add_row(new.stage, str(new.version), new.id, new.network, new.source.file)
    context.out.print(table)
