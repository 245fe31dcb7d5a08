"""Opens the records that the settings name."""

from pathlib import Path

from gateway.errors import ConfigurationError
from gateway.records.audit_keys import load_audit_keys
from gateway.records.encryption import load_cipher
from gateway.records.engines import sqlite_url
from gateway.records.metadata_seal import MetadataSeal
from gateway.records.revisions import downgrade
from gateway.records.store import RecordStore
from gateway.settings import Settings
from gateway.telemetry.metrics import PartMetrics
from gateway.tls import NO_FILES, TlsFiles
from gateway.tls_files import files_for_database


def records_url(settings: Settings) -> str:
    """Return the URL of the records; it may have a password."""
    if settings.database_url is None:
        return sqlite_url(settings.home.resolve() / "records.sqlite3")
    return settings.database_url.get_secret_value()


def records_files(settings: Settings) -> TlsFiles:
    """Return the certificates of connections to the records."""
    return NO_FILES if settings.database_url is None else files_for_database(settings)


def restoring_file(settings: Settings) -> Path:
    """Return the file that exists while a backup is being restored."""
    return settings.home / "restoring.json"


async def open_records(
    settings: Settings, metrics: PartMetrics | None = None, *, is_restoring: bool = False
) -> RecordStore:
    """Open the records that the settings name, and migrate them.

    is_restoring: for who restores a backup; nobody else may open them meanwhile. Raises
    ConfigurationError also for keys of the audit log, and storage keys, that cannot be used.
    """
    settings.home.mkdir(parents=True, exist_ok=True)
    if restoring_file(settings).exists() and not is_restoring:
        raise ConfigurationError(
            "restoring a backup into this home was interrupted: run `aurum backup restore` again"
        )
    keys = load_audit_keys(settings)
    seal = MetadataSeal(load_cipher(settings), is_on=settings.seal_metadata == "on")
    is_own = settings.database_url is None
    return await RecordStore.open(
        records_url(settings),
        timeout_seconds=settings.database_timeout_seconds,
        observer=(lambda _: None) if is_own or metrics is None else metrics.circuit("records"),
        files=records_files(settings),
        audit_keys=keys,
        metadata_seal=seal,
    )


async def take_back(settings: Settings, revision: str) -> None:
    """Take the tables back to those of a migration; see `database.downgrade`."""
    await downgrade(records_url(settings), revision, files=records_files(settings))
