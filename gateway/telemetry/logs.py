"""Logs as JSON lines through stdlib logging: one object per line, on standard error."""

import logging
import sys
from datetime import UTC, datetime
from typing import Final

import orjson

from gateway.telemetry.masking import mask

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Writes time, level, logger, message and whatever came in `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one record as one line, without secrets."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update({key: value for key, value in vars(record).items() if key not in _STANDARD})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return mask(orjson.dumps(line, default=str).decode())


def configure_logging(level: str) -> None:
    """Send all logging of the process through the formatter."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # a schema that is as it should be is no news
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # Pillow warns of odd files in plain text
    logging.captureWarnings(True)
