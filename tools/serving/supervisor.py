"""Start parts in order, restart a part that ended with back-off, stop all at the end."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from tools.serving.errors import ServingError
from tools.serving.part import Part, RunningPart
from tools.serving.state import Phase, ProcessRecord


@dataclass(frozen=True, slots=True)
class Patience:
    """Restart policy of a part."""

    first_delay_seconds: float = 0.5
    """Delay before the first restart; doubled before each further one."""
    longest_delay_seconds: float = 8.0
    """Bound of the doubling."""
    restarts: int = 5
    """Failed restarts in a row after which the whole stack stops."""
    steady_seconds: float = 60.0
    """A part that ran this long resets the count of failures."""


PATIENCE: Final = Patience()
StateListener = Callable[[Phase, dict[str, ProcessRecord]], None]


class Supervisor:
    """Runs parts until it is stopped, or one of them cannot be kept running."""

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        report: Callable[[str], None],
        listener: StateListener,
        patience: Patience = PATIENCE,
        optional: Collection[str] = (),
        late: Collection[str] = (),
    ) -> None:
        self._parts = parts
        self._report = report
        self._listener = listener
        self._patience = patience
        self._optional = frozenset(optional)
        """Names of optional parts."""
        self._late = frozenset(late)
        """Names of optional parts that start once all others are ready."""
        self._running: dict[str, RunningPart] = {}
        self._restarting: set[str] = set()

    async def run(self, *, stop: asyncio.Event, on_ready: Callable[[], None]) -> None:
        """Serve until `stop` is set; raises ServingError if a part fails for good.

        In every case all processes of the parts have ended on return.
        """
        work = asyncio.create_task(self._serve(on_ready))
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            work.cancel()
            await asyncio.wait({work, stopped})
            await self._stop_all()
        if not work.cancelled():
            work.result()

    async def _serve(self, on_ready: Callable[[], None]) -> None:
        parts = [part for part in self._parts if part.name not in self._late]
        for part in parts:
            self._report(f"Starting {part.name} (log: {part.log})")
            self._running[part.name] = await RunningPart.start(part)
        self._publish_state(starting=True)
        for part in parts:
            await self._await_first(part)
        on_ready()
        self._publish_state()
        try:
            async with asyncio.TaskGroup() as keepers:
                for part in self._parts:
                    if part.name in self._running:
                        keepers.create_task(self._keep(part))
                    elif part.name in self._late:
                        keepers.create_task(self._start_late(part))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None

    async def _await_first(self, part: Part) -> None:
        try:
            await self._running[part.name].wait_ready(first=True)
        except ServingError as error:
            if part.name not in self._optional:
                raise
            self._report(f"{error}; going on without {part.name}")
            await self._running.pop(part.name).stop()

    async def _start_late(self, part: Part) -> None:
        try:
            self._running[part.name] = await RunningPart.start(part)
            await self._running[part.name].wait_ready(first=False)
        except ServingError as error:
            self._report(f"{error}; going on without {part.name}")
            if part.name in self._running:
                await self._running.pop(part.name).stop()
            return
        self._publish_state()
        await self._keep(part)

    async def _start_again(self, part: Part) -> None:
        await asyncio.to_thread(part.prepare_restart, self._report)
        self._running[part.name] = await RunningPart.start(part)
        self._publish_state()
        await self._running[part.name].wait_ready(first=False)

    async def _keep(self, part: Part) -> None:
        """Restart the part whenever it ends; raises ServingError after too many failures.

        An optional or late part stays stopped instead.
        """
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            since = loop.time()
            running = self._running[part.name]
            await running.wait_end()
            reason = running.describe_end()
            if loop.time() - since > self._patience.steady_seconds:
                failures = 0
            if part.name not in self._late:
                self._restarting.add(part.name)
            while True:
                if failures >= self._patience.restarts:
                    message = f"giving up after {failures} restarts: {reason}"
                    if part.name not in self._optional | self._late:
                        raise ServingError(message)
                    self._report(f"{message}; going on without {part.name}")
                    await self._running.pop(part.name).stop()
                    self._restarting.discard(part.name)
                    self._publish_state()
                    return
                self._report(f"{reason}; starting it again")
                await self._running[part.name].stop()
                await asyncio.sleep(self._delay_seconds(failures))
                failures += 1
                try:
                    await self._start_again(part)
                    break
                except ServingError as error:
                    reason = str(error)
            self._restarting.discard(part.name)
            self._publish_state()
            self._report(f"{part.name} is ready again")

    def _delay_seconds(self, failures: int) -> float:
        doubled = self._patience.first_delay_seconds * 2.0**failures
        return min(doubled, self._patience.longest_delay_seconds)

    async def _stop_all(self) -> None:
        # the gateway and the late parts first: they need the others to finish what is in flight
        late = [part for name, part in self._running.items() if name in self._late]
        running = [part for name, part in self._running.items() if name not in self._late]
        outcomes: list[BaseException | None] = []
        for group in (running[-1:] + late, running[:-1]):
            stops = (each.stop() for each in group)
            outcomes += await asyncio.gather(*stops, return_exceptions=True)
        for failure in outcomes:
            if failure is not None:
                raise failure

    def _publish_state(self, *, starting: bool = False) -> None:
        phase: Phase = "starting" if starting else "restarting" if self._restarting else "ready"
        self._listener(phase, {name: part.record for name, part in self._running.items()})
