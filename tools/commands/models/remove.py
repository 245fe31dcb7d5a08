"""`aurum models remove`: delete a version that no collection needs."""

import asyncio
import json

from gateway.errors import AurumError
from gateway.records.factory import open_records
from gateway.settings import Settings
from tools.commands.models.activate import Stage
from tools.commands.models.common import Repository, opened
from tools.errors import LifecycleError
from tools.registry import activation
from tools.registry.version_store import VersionStore, stage_name
from triton_python_backend import contract

_METADATA_FILE = "model.json"


def remove(stage: Stage, version: int, *, repository: Repository = None) -> None:
    """Delete a version that is not in service and that no collection uses."""
    with opened(repository) as context:
        name = stage_name(stage)
        refuse_if_in_use(context.settings, context.version_store, name, version)
        activation.remove(context.version_store, name, version)
        context.out.print(f"{name} {version} is deleted")


def refuse_if_in_use(
    settings: Settings, version_store: VersionStore, stage: str, version: int
) -> None:
    """Refuse to delete an embedding version while a collection uses its space.

    Raises LifecycleError naming the collections, or where the records cannot be read.
    """
    if stage != contract.EMBEDDING_STAGE.name:
        return
    space = _space(version_store, stage, version)
    others = {
        _space(version_store, stage, other)
        for other in (*version_store.placed_versions(stage), *version_store.kept_versions(stage))
        if other != version
    }
    if space is None or space in others:
        return
    try:
        names = asyncio.run(_collections_in(settings, space))
    except AurumError as error:
        message = f"cannot find out which collections use {stage} {version}: {error.detail}"
        raise LifecycleError(message) from error
    if names:
        message = (
            f"{stage} {version} is needed by {', '.join(names)}: "
            "move them (`aurum vectors migrate`) or delete them first"
        )
        raise LifecycleError(message)


async def _collections_in(settings: Settings, space: str) -> list[str]:
    if settings.database_url is None and not (settings.home / "records.sqlite3").exists():
        return []
    records = await open_records(settings)
    try:
        found = await records.collections.all()
    finally:
        await records.close()
    return sorted(
        f"{each.tenant}/{each.name}"
        for each in found
        if space == each.space
        or (each.migration is not None and space in (each.migration.source, each.migration.target))
    )


def _space(version_store: VersionStore, stage: str, version: int) -> str | None:
    for folder in (version_store.placed(stage, version), version_store.kept(stage, version)):
        sidecar = folder / _METADATA_FILE
        if sidecar.exists():
            space = json.loads(sidecar.read_text()).get("id")
            return space if isinstance(space, str) else None
    return None
