"""Opens the records that the settings name."""

from gateway.records.database import sqlite_url
from gateway.records.store import RecordStore
from gateway.settings import Settings


async def open_records(settings: Settings) -> RecordStore:
    """Open the records that the settings name, and migrate them."""
    if settings.database_url is not None:
        return await RecordStore.open(settings.database_url.get_secret_value())
    settings.home.mkdir(parents=True, exist_ok=True)
    return await RecordStore.open(sqlite_url(settings.home.resolve() / "records.sqlite3"))
