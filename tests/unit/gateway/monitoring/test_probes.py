import asyncio

from gateway.concurrency import BackgroundTasks
from gateway.errors import StorageUnavailableError
from gateway.monitoring.probes import ComponentProbes
from gateway.telemetry.metrics import Metrics


class Part:
    """A component with scripted behaviour."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.answers = asyncio.Event()
        self.answers.set()
        self.asked = 0
        self.cancelled = 0

    async def __call__(self) -> str:
        self.asked += 1
        try:
            await self.answers.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return "fine"


async def becomes(parts: ComponentProbes, text: str, name: str = "vectors") -> None:
    async with asyncio.timeout(60):
        while text not in parts.states[name].detail:
            await asyncio.sleep(0.01)


async def test_a_failing_component_has_a_reason_and_recovers(caplog):
    vectors, records, metrics = Part(), Part(), Metrics()
    probes = {"vectors": vectors, "records": records}
    parts = ComponentProbes(probes, metrics.parts, interval_seconds=0.01)
    assert all(state.works for state in parts.states.values())

    def up(name: str) -> float | None:
        return metrics.registry.get_sample_value("aurum_part_up", {"part": name})

    async with BackgroundTasks() as background, parts.running(background):
        await becomes(parts, "fine")
        vectors.error = StorageUnavailableError("the engine ended")
        await becomes(parts, "the engine ended")
        assert not parts.states["vectors"].works
        assert parts.states["records"].works
        assert (up("vectors"), up("records")) == (0, 1)
        vectors.error = ValueError("odd")
        await becomes(parts, "ValueError: odd")
        vectors.error = None
        await becomes(parts, "fine")
        assert parts.states["vectors"].works
    said = [each.getMessage() for each in caplog.records]
    assert said.count("part does not work") == 1
    assert said.count("part works again") == 1


async def test_a_hanging_component_is_probed_once_and_reported():
    vectors, records = Part(), Part()
    parts = ComponentProbes(
        {"vectors": vectors, "records": records},
        Metrics().parts,
        interval_seconds=0.01,
        patience_seconds=0.3,
    )
    async with BackgroundTasks() as background, parts.running(background):
        await becomes(parts, "fine")
        vectors.answers.clear()
        await becomes(parts, "no answer for")
        asked = vectors.asked
        await asyncio.sleep(0.2)
        assert vectors.asked == asked
        assert parts.states["records"].works, "a hanging component must not delay the others"
        vectors.answers.set()
        await becomes(parts, "fine")
        vectors.answers.clear()
        await becomes(parts, "no answer for")
    assert vectors.cancelled == 1


async def test_a_probe_has_ended_before_its_component_is_closed():
    ended = []

    async def slow_to_go() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            # as a database connection that is returned
            await asyncio.sleep(0.05)
            ended.append("question")
        return "never"

    parts = ComponentProbes({"records": slow_to_go}, Metrics().parts)
    async with BackgroundTasks() as background, parts.running(background):
        await asyncio.sleep(0.01)
    assert ended == ["question"]
