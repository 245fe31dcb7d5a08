"""Jobs under random schedules: workers that crash, are late, lose leases; clients that interfere.

After each step: exactly one result of each image that has ended, and it is the accepted one;
counts that add up; sequences without gaps. At the end, with a worker that lives, all has ended.
"""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete

from gateway.errors import ConflictError
from gateway.records.job_tables import JOB_TENANTS, JOBS
from gateway.records.job_types import ItemOutcome, JobRecord, LeasedItem
from gateway.records.store import RecordStore
from tests.support.job_records import LEASE_SECONDS, badly, claim, found, submitted, well
from tests.support.records import SetClock

WORKERS = ("u", "v", "w")
TENANTS = ("a", "b")
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                *["submit"] * 2,
                *["claim"] * 6,
                *["finish"] * 5,
                *["late"] * 3,
                *["crash"] * 2,
                *["wait"] * 2,
                *["restart", "renew", "release", "retry_later", "finish_all"],
                *["cancel", "pause", "resume", "retry"],
            ]
        ),
        st.integers(0, 10_000),
    ),
    min_size=5,
    max_size=40,
)


@dataclass
class Schedule:
    """Workers and clients of the records, and what they must find."""

    records: RecordStore
    clock: SetClock
    jobs: list[JobRecord] = field(default_factory=list)
    held: dict[str, list[LeasedItem]] = field(default_factory=lambda: defaultdict(list))
    late: list[LeasedItem] = field(default_factory=list)
    """Images of workers that went away and come back after all."""
    accepted: dict[tuple[str, int], str] = field(default_factory=dict)
    """The outcome that an image must have."""
    latest: dict[tuple[str, int], LeasedItem] = field(default_factory=dict)
    """Who was the last to claim each image."""
    cancelled: set[str] = field(default_factory=set)
    sequences: Counter[str] = field(default_factory=Counter)
    number: int = 0

    async def step(self, action: str, choice: int) -> None:
        """Do one thing, then look at everything."""
        worker = WORKERS[choice % len(WORKERS)]
        steps: dict[str, Callable[[], Awaitable[None]]] = {
            "submit": lambda: self.submit(choice),
            "claim": lambda: self.claim(worker, 1 + choice % 4),
            "finish": lambda: self.finish(self.held[worker], choice),
            "finish_all": lambda: self.finish_all(worker),
            "late": lambda: self.finish(self.late, choice),
            "crash": lambda: self.crash(worker),
            "restart": lambda: self.restart(worker),
            "renew": lambda: self.renew(worker),
            "release": lambda: self.release(worker),
            "retry_later": lambda: self.retry_later(worker, choice),
            "wait": lambda: self.wait(choice),
        }
        if action in steps:
            await steps[action]()
        elif self.jobs:
            await self.control(action, self.jobs[choice % len(self.jobs)])
        await self.check()

    async def submit(self, choice: int) -> None:
        if len(self.jobs) < 4:
            tenant = TENANTS[choice % len(TENANTS)]
            self.jobs.append(await submitted(self.records, 1 + choice % 7, tenant))

    async def claim(self, worker: str, limit: int) -> None:
        items = await claim(self.records, worker, limit=limit, max_attempts=3)
        assert len({item.job.id for item in items}) <= 1
        assert not {item.key for item in items} & self.accepted.keys()
        assert not {item.job.id for item in items} & self.cancelled
        self.held[worker] += items
        self.latest |= {item.key: item for item in items}

    async def finish(self, items: list[LeasedItem], choice: int) -> None:
        if items:
            item = items.pop(choice % len(items))
            outcome = self.outcome(bad=choice % 3 == 0)
            self.accept(item, outcome, told=await self.records.job_queue.finish(item, outcome))

    async def finish_all(self, worker: str) -> None:
        """Together, as the images of a slice end; one of them twice."""
        items = self.held.pop(worker, [])
        items += items[:1]
        ends = [(item, self.outcome(bad=item.index % 4 == 3)) for item in items]
        finish = self.records.job_queue.finish
        told = await asyncio.gather(*(finish(item, outcome) for item, outcome in ends))
        for (item, outcome), accepted in zip(ends, told, strict=True):
            self.accept(item, outcome, told=accepted)

    def outcome(self, *, bad: bool) -> ItemOutcome:
        self.number += 1
        return badly(f"bad {self.number}") if bad else well(f"good {self.number}")

    def accept(self, item: LeasedItem, outcome: ItemOutcome, *, told: bool) -> None:
        if told:
            assert item.key not in self.accepted, "two results"
            assert self.latest[item.key] is item, "not by the latest to claim it"
            assert item.job.id not in self.cancelled
            self.accepted[item.key] = text_of(outcome)

    async def crash(self, worker: str) -> None:
        self.late += self.held.pop(worker, [])

    async def restart(self, worker: str) -> None:
        self.late += self.held.pop(worker, [])
        await self.records.job_queue.release_worker(worker)

    async def renew(self, worker: str) -> None:
        kept = await self.records.job_queue.renew(worker, self.held[worker], LEASE_SECONDS)
        lost = [item for item in self.held[worker] if item.key not in kept]
        self.held[worker] = [item for item in self.held[worker] if item.key in kept]
        self.late += lost

    async def release(self, worker: str) -> None:
        items = self.held.pop(worker, [])
        await self.records.job_queue.release(items)
        self.late += items

    async def retry_later(self, worker: str, choice: int) -> None:
        if self.held[worker]:
            item = self.held[worker].pop()
            await self.records.job_queue.retry_later(
                item, delay_seconds=choice % 50, code="timeout", detail="slow"
            )
            self.late.append(item)

    async def wait(self, choice: int) -> None:
        self.clock.move(choice % (2 * LEASE_SECONDS))

    async def control(self, action: str, job: JobRecord) -> None:
        jobs = self.records.jobs
        controls = {
            "cancel": jobs.cancel,
            "pause": jobs.pause,
            "resume": jobs.resume,
            "retry": jobs.retry_failed,
        }
        errors = await self.records.jobs.results(job.id, limit=99, status="error")
        try:
            await controls[action](job.tenant, job.id)
        except ConflictError:
            return
        if action == "cancel":
            self.cancelled.add(job.id)
        if action == "retry":
            for error in errors:
                self.accepted.pop((job.id, error.index), None)

    async def check(self) -> None:
        """Compare all jobs with what was accepted."""
        for before in self.jobs:
            job = await found(self.records, before)
            results = await self.records.jobs.results(job.id, limit=99)
            assert len(results) == job.total
            by_status = Counter(result.status for result in results)
            assert (by_status["ok"], by_status["error"]) == (job.done, job.failed)
            assert job.total == job.done + job.failed + job.open
            assert (job.state == "done") == (job.open == 0) or job.state == "cancelled"
            events = await self.records.jobs.events(
                job.id, limit=99, after_sequence=self.sequences[job.id]
            )
            numbers = [event.sequence for event in events]
            assert numbers == list(range(self.sequences[job.id] + 1, job.sequence + 1))
            self.sequences[job.id] = job.sequence
            for event in events:
                if event.code == "internal":
                    # given up by a claim
                    assert (job.id, event.index) not in self.accepted
                    self.accepted[job.id, event.index] = "internal"
            for result in results:
                shown = result.code if result.result is None else result.result.sealed.decode()
                ended = result.status in ("ok", "error")
                assert (shown if ended else None) == self.accepted.get((job.id, result.index))

    async def all_end(self) -> None:
        """Let clients continue their jobs and a worker that lives end them."""
        for job in self.jobs:
            await self.control("resume", job)
        idle = 0
        while idle < 10:
            await self.claim("alive", 3)
            if self.held["alive"]:
                idle = 0
                await self.finish_all("alive")
            else:
                idle += 1
                self.clock.move(LEASE_SECONDS)
        await self.check()
        for job in self.jobs:
            assert (await found(self.records, job)).state in ("done", "cancelled")
        while self.late:
            await self.finish(self.late, 1)
        await self.check()
        depth = await self.records.jobs.depth()
        assert (depth.waiting, depth.oldest_seconds) == (0, None)


def text_of(outcome: ItemOutcome) -> str:
    if outcome.result is None:
        return outcome.code or ""
    return outcome.result.sealed.decode()


async def emptied(records: RecordStore) -> None:
    async with records._database.write() as connection:
        await connection.execute(delete(JOBS))
        await connection.execute(delete(JOB_TENANTS))


@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=STEPS)
async def test_each_image_has_one_result_whatever_happens(
    records: RecordStore, set_clock: SetClock, steps: list[tuple[str, int]]
) -> None:
    await emptied(records)
    schedule = Schedule(records, set_clock)
    await schedule.submit(3)
    for action, choice in steps:
        await schedule.step(action, choice)
    await schedule.all_end()


async def test_a_long_schedule(records: RecordStore, set_clock: SetClock) -> None:
    schedule = Schedule(records, set_clock)
    chance = random.Random(7)
    actions = ["claim", "claim", "finish", "finish", "late", "crash", "restart", "renew", "wait"]
    for tenant in TENANTS * 3:
        schedule.jobs.append(await submitted(records, 20, tenant))
    for _ in range(100):
        await schedule.step(chance.choice(actions), chance.randrange(10_000))
    await schedule.all_end()
