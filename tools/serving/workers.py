"""Workers alone, in the foreground: beside a stack, or on a machine without one."""

import asyncio
import os
import signal
from collections.abc import Callable

from gateway.settings import Settings
from tools.serving.home import Home
from tools.serving.redis_part import RedisPart
from tools.serving.run_settings import RunSettings
from tools.serving.supervisor import Supervisor
from tools.serving.worker_part import WorkerPart, worker_names


def serve_workers(settings: Settings, number: int, *, report: Callable[[str], None]) -> None:
    """Run `number` workers until SIGINT, SIGTERM or SIGHUP.

    `settings` has absolute folders. Raises ServingError where a worker ends again and again.
    """
    asyncio.run(_serve(worker_parts(settings, number), report))


def worker_parts(settings: Settings, number: int) -> list[WorkerPart]:
    """Make the parts; their names are those of no other worker."""
    home, run_settings = Home(settings.home), RunSettings.of(settings)
    redis = RedisPart(run_settings, home)
    # the cache of a stack that runs in this home
    beside = settings.redis_url is None and redis.socket.exists()
    return [
        WorkerPart(
            run_settings,
            home,
            f"{name}-{os.getpid()}",
            settings.worker_name if number == 1 else None,
            redis.url if beside else None,
        )
        for name in worker_names(number)
    ]


async def _serve(parts: list[WorkerPart], report: Callable[[str], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signalled in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(signalled, stop.set)
    count = f"{len(parts)} workers run" if len(parts) > 1 else "A worker runs"
    supervisor = Supervisor(parts, report=report, listener=lambda *_: None)
    await supervisor.run(stop=stop, on_ready=lambda: report(f"{count}; Ctrl-C ends"))
    report("Stopped")
