"""What the errors of the databases' drivers mean, as errors of ours."""

import logging
from typing import Final

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, StatementError

from gateway.errors import InsufficientStorageError, StorageUnavailableError

log = logging.getLogger(__name__)

RETRY_SECONDS: Final = 2
"""When a caller may try again, and how soon a database that did not answer is probed."""
_AWAY: Final = ("08", "53", "57")
"""Classes of PostgreSQL's codes for a server that is away, starting, ending or out of resources."""
_REFUSED: Final = ("22", "23", "54")
"""Classes of PostgreSQL's codes for values that it does not store."""
_DISK_FULL = ("database or disk is full", "No space left on device", "could not extend file")


def translated(error: Exception) -> InsufficientStorageError | StorageUnavailableError:
    """Return the error of ours that an error of a driver means."""
    detail = str(error.orig if isinstance(error, DBAPIError) else error) or type(error).__name__
    if any(words in detail for words in _DISK_FULL):
        return InsufficientStorageError("the disk of the records is full")
    if isinstance(error, OSError) or isinstance(getattr(error, "orig", None), OSError):
        # its text has the address of the server, which is not for callers
        log.warning("the records cannot be reached", extra={"reason": detail})
        return unavailable("the database cannot be reached")
    return unavailable(detail)


def unavailable(detail: str) -> StorageUnavailableError:
    """Make the error of records that cannot be used just now."""
    return StorageUnavailableError(f"records: {detail}", retry_after_seconds=RETRY_SECONDS)


def code_of(error: DBAPIError) -> str:
    """Return PostgreSQL's code of an error; empty where there is none."""
    return str(getattr(error.orig, "sqlstate", None) or "")


def is_refused(error: BaseException) -> bool:
    """Whether a transaction failed because of its values, and would fail with them again."""
    if isinstance(error, StorageUnavailableError):
        error = error.__cause__ or error
    if isinstance(error, DBAPIError):
        by_driver = isinstance(getattr(error.orig, "__cause__", None), ValueError | TypeError)
        refused = isinstance(error, DataError | IntegrityError)
        return refused or by_driver or code_of(error).startswith(_REFUSED)
    return isinstance(error, StatementError | ValueError | TypeError | OverflowError)


def is_away(error: DBAPIError) -> bool:
    """Whether an error says that the server is away, rather than that a statement failed."""
    code = code_of(error)
    return error.connection_invalidated or code.startswith(_AWAY) or not code
