"""`python -m gateway`: read the settings, then serve until a signal stops the process."""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import warnings

import uvloop
from aiohttp import web
from PIL import Image

from gateway.app import create_app, make_runner
from gateway.errors import ConfigurationError
from gateway.security.exposure import check_exposure, warning
from gateway.settings import Settings, load_settings
from gateway.telemetry.logs import configure_logging

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


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then finish requests in flight; raises OSError: no port."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    # before anything else is opened: without its port the gateway cannot serve
    listener = bind(settings.host, settings.port)
    runner = make_runner(create_app(settings), settings)
    await runner.setup()
    try:
        await web.SockSite(runner, listener).start()
        # modules and schemas are never freed; scanning them all in each garbage collection delayed
        # every request by a fifth of a second
        gc.collect()
        gc.freeze()
        if (open_to := warning(settings)) is not None:
            log.warning(open_to)
        log.info("listening", extra={"url": f"http://{settings.host}:{settings.port}"})
        await stop.wait()
        log.info("stopping")
    finally:
        await runner.cleanup()


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
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        reason = os.strerror(error.errno) if error.errno else str(error)
        sys.stderr.write(f"aurum: cannot listen on {where}: {reason}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
