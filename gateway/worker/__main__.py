"""`python -m gateway.worker`: settings from the environment, then work until a signal stops it."""

import asyncio
import gc
import os
import signal
import sys
import threading
import warnings
from typing import Final

import uvloop
from PIL import Image

from gateway.errors import ConfigurationError
from gateway.settings import Settings, load_settings
from gateway.telemetry.logs import configure_logging
from gateway.worker.process import work

_NICENESS: Final = 5
"""Where processors are few, callers of the gateway come first."""
_STOP_SECONDS: Final = 2.0
"""After a signal: a database or a Triton that hangs does not hold the process up."""


async def run(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def end() -> None:
        stop.set()
        _end_later()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    gc.collect()
    gc.freeze()
    await work(settings, stop)


def _end_later() -> None:
    timer = threading.Timer(_STOP_SECONDS, os._exit, (0,))
    timer.daemon = True
    timer.start()


def main() -> int:
    """Run; returns the exit status."""
    try:
        settings = load_settings()
    except ConfigurationError as error:
        sys.stderr.write(f"aurum: {error}\n")
        return 1
    configure_logging(settings.log_level)
    # more pixels than Pillow likes are refused by our own limit
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    os.nice(_NICENESS)
    try:
        uvloop.run(run(settings))
    except ConfigurationError as error:
        sys.stderr.write(f"aurum: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
