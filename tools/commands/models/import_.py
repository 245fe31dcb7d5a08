"""`aurum models import`: files of weights become new versions."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from tools.commands.models.common import Context, Repository, opened
from tools.commands.models.golden import Original, examine, original
from tools.commands.models.quantize import CalibrationPhotos, in_service, quantizer, show_accuracy
from tools.commands.models.waiting import Wait, tell_when_served
from tools.importing.importer import Order, as_it_is, import_weights
from tools.importing.stages.arcface import USUAL, Normalisation
from tools.quantization.quantize import Quantizer
from tools.registry.changes import note_import, refuse_while_tried
from tools.registry.changes import opened as journal_opened
from tools.registry.repository import ModelCard, space_of
from tools.registry.version_store import STAGE_NAMES


def import_command(
    *,
    detection: Annotated[Path | None, typer.Option(help="SCRFD detector, ONNX.")] = None,
    embedding: Annotated[Path | None, typer.Option(help="ArcFace network, ONNX.")] = None,
    scoring: Annotated[Path | None, typer.Option(help="Scoring head, ONNX.")] = None,
    version: Annotated[int | None, typer.Option(help="Version; else the next free one.")] = None,
    repository: Repository = None,
    space: Annotated[
        str | None,
        typer.Option(help="Space the head was trained in: 16 digits, a version, or 'active'."),
    ] = None,
    mean: Annotated[
        float | None, typer.Option(help="The embedding's pixels: (x-mean)/std.")
    ] = None,
    std: Annotated[float | None, typer.Option(help="The embedding's pixels: (x-mean)/std.")] = None,
    licence: Annotated[str | None, typer.Option(help="Licence of the weights, noted.")] = None,
    same_space_as: Annotated[
        int | None,
        typer.Option(help="The embedding is a re-export of this version and takes over its space."),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Out of service, for `activate` with --canary or so.")
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
    """Check weights, make them ready for Triton and place them as new versions: all or none."""
    normalisation = None
    if mean is not None or std is not None:
        normalisation = Normalisation(
            USUAL.mean if mean is None else mean, USUAL.std if std is None else std
        )
    with opened(repository) as context:
        same = None if same_space_as is None else original(context.version_store, same_space_as)
        same_space = None if same is None else space_of(same.card)
        lighter = quantizer(
            context,
            int8=int8,
            fp16=fp16,
            photos=calibration_photos,
            keep_space=same is not None,
        )
        anew = lighter is not None and not any((detection, embedding, scoring))
        order = Order(
            detection=detection,
            embedding=embedding,
            scoring=scoring,
            version=version,
            space=space,
            normalisation=normalisation,
            licence=licence,
            finished=in_service(context, same_space=same_space) if anew else (),
            same_space=same_space,
        )
        cards = place(context, order, same=same, lighter=lighter, keep=keep)
        show(context, cards, title="kept" if keep else "placed")
        show_accuracy(context, cards)
        for card in cards:
            tell_when_served(context, card.stage, card.version, seconds=wait)


def place(
    context: Context,
    order: Order,
    *,
    same: Original | None = None,
    lighter: Quantizer | None = None,
    keep: bool = False,
) -> list[ModelCard]:
    """Import an order and write it into the journal; with `keep`, out of service."""
    version_store = context.version_store
    with journal_opened(version_store), context.errors.status("importing") as status:
        if not keep:
            for stage in order.stages:
                refuse_while_tried(version_store, stage)
        if lighter is not None:
            lighter.progress = status.update
        before = {stage: version_store.newest(stage) for stage in STAGE_NAMES}
        cards = import_weights(
            order,
            version_store.repository,
            lambda text: status.update(text),
            reserved=version_store.kept_versions,
            quantize=lighter or as_it_is,
            examine=examine(same),
            version_store=version_store.kept_folder if keep else None,
        )
        for card in [] if keep else cards:
            note_import(version_store, card.stage, card.version, before=before[card.stage])
    return cards


def show(context: Context, cards: list[ModelCard], *, title: str = "placed") -> None:
    """Print what was placed."""
    table = Table(title=title)
    for heading in ("stage", "version", "id"):
        table.add_column(heading, no_wrap=True)
    for heading in ("network", "made from"):
        table.add_column(heading, overflow="fold")
    for card in cards:
        table.add_row(card.stage, str(card.version), card.id, card.network, card.source.file)
    context.out.print(table)
