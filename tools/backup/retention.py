"""Which backups are kept."""

from collections.abc import Sequence

from tools.backup.places import Place


async def prune(place: Place, *, keep: int) -> Sequence[str]:
    """Delete all archives but the newest `keep`; returns the names of the deleted ones."""
    names = [each.name for each in await place.archives()]
    old = names[: max(len(names) - keep, 0)]
    for name in old:
        await place.delete(name)
    return old
