"""Opens the records that the settings name."""

from gateway.records.database import sqlite_url
from gateway.records.store import RecordStore
from gateway.settings import Settings
from gateway.telemetry.metrics import PartMetrics
from gateway.tls_files import files_for_database


async def open_records(settings: Settings, metrics: PartMetrics | None = None) -> RecordStore:
    """Open the records that the settings name, and migrate them."""
    seconds = settings.database_timeout_seconds
    if settings.database_url is None:
        settings.home.mkdir(parents=True, exist_ok=True)
        url = sqlite_url(settings.home.resolve() / "records.sqlite3")
        return await RecordStore.open(url, timeout_seconds=seconds)
    url = settings.database_url.get_secret_value()
    files = files_for_database(settings)
    if metrics is None:
        return await RecordStore.open(url, timeout_seconds=seconds, files=files)
    observer = metrics.circuit("records")
    return await RecordStore.open(url, timeout_seconds=seconds, observer=observer, files=files)
