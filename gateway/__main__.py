"""`python -m gateway`: read the settings, then serve until a signal stops the process."""

import asyncio
import gc
import logging
import os
import signal
import socket
import ssl
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress

import uvloop
from aiohttp import web
from PIL import Image

from gateway.api.lifecycle import LIFECYCLE, SERVER_TLS, Lifecycle, starting_app
from gateway.app import create_app, make_runner
from gateway.concurrency import BackgroundTasks
from gateway.errors import AurumError, ConfigurationError
from gateway.security.exposure import check_exposure, warning
from gateway.settings import Settings, load_settings
from gateway.telemetry.logs import configure_logging
from gateway.tls import ServerTls

log = logging.getLogger("gateway")


def bind(host: str, port: int) -> socket.socket:
    """Reserve the port without listening yet. Raises OSError if the port is not available."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener


class Signals:
    """SIGTERM and SIGINT: the first one stops the service, the second one ends its drain.

    SIGHUP reads the certificates again, which happens by itself when their files change.
    """

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._received)
        self.reload: Callable[[], None] = lambda: None
        loop.add_signal_handler(signal.SIGHUP, lambda: self.reload())

    def _received(self) -> None:
        (self.hurry if self.stop.is_set() else self.stop).set()


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then finish requests in flight.

    Raises:
        OSError: no port.
        ConfigurationError, AurumError: a store cannot be used, or did not answer in time.
    """
    signals = Signals()
    # before anything else is opened: without its port the gateway cannot serve
    listener = bind(settings.host, settings.port)
    app = create_app(settings)
    tls = app.get(SERVER_TLS)
    if tls is not None:
        signals.reload = lambda: tls.refresh(force=True)
    runner = make_runner(app, settings)
    try:
        shows_details = settings.authentication != "on"
        starting = starting_app(app[LIFECYCLE], shows_details=shows_details)
        if not await _open(runner, app[LIFECYCLE], starting, listener, signals, tls):
            return
        await web.SockSite(runner, listener, ssl_context=_context(tls)).start()
        # modules and schemas are never freed; scanning them all in each garbage collection delayed
        # every request by a fifth of a second
        gc.collect()
        gc.freeze()
        if (open_to := warning(settings)) is not None:
            log.warning(open_to)
        scheme = "http" if tls is None else "https"
        log.info("listening", extra={"url": f"{scheme}://{settings.host}:{settings.port}"})
        await signals.stop.wait()
        app[LIFECYCLE].stopping = True
        if settings.drain_seconds:
            log.info("draining", extra={"seconds": settings.drain_seconds})
            with suppress(TimeoutError):
                async with asyncio.timeout(settings.drain_seconds):
                    await signals.hurry.wait()
        log.info("stopping")
    finally:
        await runner.cleanup()
        listener.close()


async def _open(
    runner: web.AppRunner,
    lifecycle: Lifecycle,
    until_then: web.Application,
    listener: socket.socket,
    signals: Signals,
    tls: ServerTls | None,
) -> bool:
    """Open the services; whether they are open: a signal ends the wait for them.

    Only while a store is waited for, health routes are answered meanwhile: a balancer shall get no
    connection to a gateway that is about to start, and go on to the next one.
    """
    tasks = BackgroundTasks()
    opening = tasks.detach("open", runner.setup())
    stopped = tasks.detach("wait-for-signal", signals.stop.wait())
    waits = tasks.detach("wait-for-stores", lifecycle.waits.wait())
    starting: web.AppRunner | None = None
    try:
        await asyncio.wait({opening, stopped, waits}, return_when=asyncio.FIRST_COMPLETED)
        if not (opening.done() or stopped.done()):
            starting = web.AppRunner(until_then, access_log=None)
            await starting.setup()
            context = _context(tls)
            await web.SockSite(starting, listener.dup(), ssl_context=context).start()
            await asyncio.wait({opening, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if opening.done():
            opening.result()
        return opening.done()
    finally:
        await tasks.close()
        if starting is not None:
            await starting.cleanup()


def _context(tls: ServerTls | None) -> ssl.SSLContext | None:
    return None if tls is None else tls.listening_context()


def main() -> int:
    """Run; returns the exit status."""
    try:
        settings = load_settings()
        check_exposure(settings)
    except ConfigurationError as error:
        sys.stderr.write(f"aurum: {error}\n")
        return 1
    configure_logging(settings.log_level)
    # AURUM_MAX_IMAGE_MEGAPIXELS limits pixels instead of Pillow's own check
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    try:
        uvloop.run(serve(settings))
    except (ConfigurationError, AurumError) as error:
        sys.stderr.write(f"aurum: {error}\n")
        return 1
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        reason = os.strerror(error.errno) if error.errno else str(error)
        sys.stderr.write(f"aurum: cannot listen on {where}: {reason}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
