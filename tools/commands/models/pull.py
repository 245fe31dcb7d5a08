"""`aurum models list`, `pull`: packs of weights from elsewhere into service."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from tools.commands.models.common import Context, Repository, opened
from tools.commands.models.import_ import place, show
from tools.commands.models.waiting import Wait, tell_when_served, warn_of_foreign_head
from tools.importing.importer import Order
from tools.importing.stages.arcface import Normalisation
from tools.packs.cache import Cache, digest_of
from tools.packs.manifest import BUILT_IN_VERSION, Pack, PackFile, load_manifest
from tools.registry.repository import SIDECAR_FILE
from tools.registry.view import card_of
from triton_python_backend.contract import DETECTION, EMBEDDING_STAGE, SCORING

_ManifestOption = Annotated[Path | None, typer.Option(help="Another models.json.")]


def list_packs(*, manifest: _ManifestOption = None) -> None:
    """Show the packs that can be pulled: networks, size, licence, and which are here."""
    with opened() as context:
        table = Table()
        for heading in ("pack", "here"):
            table.add_column(heading, no_wrap=True)
        for heading in ("what", "networks", "size", "licence"):
            table.add_column(heading, overflow="fold")
        cache = _cache(context)
        for pack in (load_manifest(manifest) if manifest else load_manifest()).packs:
            here = "built in" if pack.archive is None else "yes" if cache.cached(pack) else "no"
            names = ", ".join(_name(pack, file) for file in pack.files)
            table.add_row(pack.name, here, pack.description, names, _size(pack), pack.licence)
        context.out.print(table)


def pull(
    name: Annotated[str, typer.Argument(metavar="PACK", help="See `aurum models list`.")],
    *,
    accept_license: Annotated[
        bool, typer.Option("--accept-license", help="Agree to the licence without being asked.")
    ] = False,
    repository: Repository = None,
    manifest: _ManifestOption = None,
    wait: Wait = 30.0,
) -> None:
    """Fetch a pack and put its networks into service as the next versions."""
    with opened(repository) as context:
        pack = (load_manifest(manifest) if manifest else load_manifest()).pack(name)
        if pack.archive is None:
            context.out.print(f"{name} is built in: {pack.description}", markup=False)
            return
        context.out.print(f"{name}: {pack.description}", markup=False)
        context.out.print(f"licence: {pack.licence}", markup=False)
        context.out.print(_size(pack), markup=False)
        if not accept_license and not typer.confirm("Do you agree to this licence?"):
            raise typer.Exit(1)
        files = _fetch(context, pack)
        missing = _not_in_service(context, pack, files)
        if not missing:
            context.out.print(f"{name} is in service already")
            return
        embedding = next((f for f in pack.files if f.stage == EMBEDDING_STAGE.name), None)
        order = Order(
            detection=missing.get(DETECTION.name),
            embedding=missing.get(EMBEDDING_STAGE.name),
            scoring=missing.get(SCORING.name),
            normalisation=None
            if embedding is None or embedding.preprocessing is None
            else Normalisation(embedding.preprocessing.mean, embedding.preprocessing.std),
            licence=pack.licence,
        )
        cards = place(context, order)
        show(context, cards)
        for card in cards:
            tell_when_served(context, card.stage, card.version, seconds=wait)
        warn_of_foreign_head(context)


def _cache(context: Context) -> Cache:
    folder = context.settings.model_cache or context.version_store.folder / "cache"
    return Cache(folder, context.settings.model_mirror)


def _fetch(context: Context, pack: Pack) -> dict[str, Path]:
    columns = (TextColumn(pack.name), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=context.errors) as bar:
        task = bar.add_task(pack.name, total=None)
        return _cache(context).fetch(
            pack, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )


def _not_in_service(context: Context, pack: Pack, files: dict[str, Path]) -> dict[str, Path]:
    missing = dict(files)
    for file in pack.files:
        newest = context.version_store.newest(file.stage)
        card = newest and card_of(context.version_store.placed(file.stage, newest) / SIDECAR_FILE)
        if card and card.source.sha256 == digest_of(files[file.stage]):
            del missing[file.stage]
    return missing


def _size(pack: Pack) -> str:
    size = "size unknown until download" if pack.bytes is None else f"{pack.bytes / 1e6:.1f} MB"
    return f"{size}, part of the clone" if pack.archive is None else size


def _name(pack: Pack, file: PackFile) -> str:
    return file.name if pack.archive else f"{file.stage}/{BUILT_IN_VERSION}/{file.name}"
