"""Lends connections of a database so that one which hangs is given up in time."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from gateway.concurrency import BackgroundTasks

log = logging.getLogger(__name__)

_TRANSACTION_SECONDS: Final = 120.0
"""How long any transaction may take; a server that hangs never ends one by itself."""
_CLOSING_SECONDS: Final = 5.0
_GARBAGE: Final = "the database answered garbage"


class Connections:
    """The connections of one engine."""

    def __init__(self, *, connect_seconds: float) -> None:
        """Wait for a connection that works for `connect_seconds`."""
        self._connect_seconds = connect_seconds
        self._tasks = BackgroundTasks()

    @asynccontextmanager
    async def lend(self, engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
        """Lend a connection for a transaction of limited time; raises TimeoutError without one.

        Whoever gives up leaves nothing behind that waits for a server which hangs: its connection
        is cut, which ends the transaction on both sides.
        """
        connection = await self._connect(engine)
        driver = (await connection.get_raw_connection()).driver_connection
        cut = getattr(driver, "terminate", lambda: None)
        overdue = asyncio.get_running_loop().call_later(_TRANSACTION_SECONDS, cut)
        try:
            yield connection
        except asyncio.CancelledError:
            cut()
            raise
        finally:
            # as the engine's own context does it: a cancelled caller does not stop it
            closing = self._tasks.detach("records-close", connection.close())
            await asyncio.shield(closing)
            overdue.cancel()

    async def settle(self) -> None:
        """Wait a moment for connections that are being given up."""
        await self._tasks.settle(seconds=_CLOSING_SECONDS)

    async def _connect(self, engine: AsyncEngine) -> AsyncConnection:
        connection = engine.connect()
        starting = self._tasks.detach("records-connect", _start(connection))
        try:
            async with asyncio.timeout(self._connect_seconds):
                await asyncio.shield(starting)
        except (asyncio.CancelledError, TimeoutError):
            # nobody waits for it to end: the driver's own cleaning-up may hang, too
            self._tasks.detach("records-abandon", _abandon(connection, starting))
            raise
        except (SQLAlchemyError, OSError):
            raise
        except Exception as error:
            # the driver asks an old connection whether it works, and stumbles over the answer
            log.exception(_GARBAGE)
            raise ConnectionError(_GARBAGE) from error
        return connection


async def _start(connection: AsyncConnection) -> None:
    await connection.start()


async def _abandon(connection: AsyncConnection, starting: asyncio.Task[None]) -> None:
    """Give up connecting, and close the connection if it came about after all."""
    starting.cancel()
    await asyncio.wait({starting})
    if not starting.cancelled() and starting.exception() is None:
        await connection.close()


def name_garbage(engine: AsyncEngine) -> None:
    """Treat an answer on which the driver stumbles as one of a database that is not there.

    Such a call raises ConnectionError, and its connection is not used again.
    """

    @event.listens_for(engine.sync_engine, "handle_error")
    def _rename(context: ExceptionContext) -> None:
        error = context.original_exception
        # the last two: of a value of ours, which no driver takes
        of_driver = (DBAPIError, context.dialect.loaded_dbapi.Error)
        known = (*of_driver, OSError, UnicodeEncodeError, OverflowError)
        # a statement that cannot be prepared is a mistake of ours
        prepared = context.execution_context is not None or context.statement is None
        if isinstance(error, Exception) and not isinstance(error, known) and prepared:
            log.error(_GARBAGE, exc_info=error)
            context.is_disconnect = True
            raise ConnectionError(_GARBAGE) from error
