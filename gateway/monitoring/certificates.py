"""Says when certificates end, and warns before they do."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import Final

from gateway.errors import ConfigurationError
from gateway.settings import Settings
from gateway.telemetry.tls_metrics import TlsMetrics
from gateway.tls import read_pem
from gateway.tls_files import all_files

log = logging.getLogger(__name__)

WARN_BEFORE: Final = timedelta(days=14)
_INTERVAL_SECONDS: Final = 3600.0


async def watch_certificates(settings: Settings, metrics: TlsMetrics) -> None:
    """Look once an hour, for ever."""
    while True:
        await asyncio.to_thread(note_certificates, settings, metrics)
        await asyncio.sleep(_INTERVAL_SECONDS)


def note_certificates(settings: Settings, metrics: TlsMetrics) -> None:
    """Export when the certificates in all files end; warn of those that end soon."""
    for files in all_files(settings):
        try:
            expires = read_pem(files).expires
        except ConfigurationError as error:
            log.warning("certificates cannot be used", extra={"reason": str(error)})
            continue
        for setting, at in expires.items():
            metrics.expires.labels(setting).set(at.timestamp())
            if at - datetime.now(UTC) < WARN_BEFORE:
                log.warning(
                    "a certificate ends soon", extra={"setting": setting, "at": at.isoformat()}
                )
