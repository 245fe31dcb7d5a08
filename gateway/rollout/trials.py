"""A version on trial: which requests it answers, what is compared, when it is stopped.

A trial neither delays nor fails a request: the candidate has half of the request's time, and the
active version answers where it fails. Comparisons run after the caller has its answer, one at a
time, and for at most a tenth of the time, as they share the cores.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from gateway.concurrency import BackgroundTasks
from gateway.deadline import Deadline
from gateway.errors import AurumError, InferenceUnavailableError
from gateway.inference.base import Inference
from gateway.rollout.base import CandidateInference
from gateway.rollout.compare import compare
from gateway.rollout.failure_guard import FailureGuard
from gateway.rollout.plan import Candidate, RequestIdentity
from gateway.rollout.trial_metrics import Report, Role, TrialMetrics
from gateway.types import Analysis, Asked, Need

log = logging.getLogger(__name__)

_INTERVAL_SECONDS: Final = 1.0
_PATIENCE_SECONDS: Final = 5.0
_MISSED_SECONDS: Final = 10.0
_AFTER_SECONDS: Final = 0.02
"""Wait before a comparison, so that the caller has its answer first."""
_REST: Final = 9
"""Pause after a comparison, in multiples of its duration."""


class Trials:
    """The trial under way, if there is one; Triton runs one at a time."""

    def __init__(
        self,
        engine: CandidateInference,
        inference: Inference,
        metrics: TrialMetrics,
        background: BackgroundTasks,
        *,
        timeout_seconds: float,
    ) -> None:
        self._engine = engine
        self._inference = inference
        self._metrics = metrics
        self._background = background
        self._timeout_seconds = timeout_seconds
        self._guard = FailureGuard()
        self._beside: asyncio.Task[None] | None = None
        self._rests_until = 0.0
        self._missed_since: float | None = None
        self.candidate: Candidate | None = None
        self.report: Report | None = None
        self.stopped = ""
        """Why the candidate is no longer asked; empty while it is."""

    def choose(self, identity: RequestIdentity, need: Need) -> Candidate | None:
        """The candidate if it shall answer this request; None: the active version."""
        candidate = self._asked
        return candidate if candidate and candidate.answers(identity, need) else None

    async def analyse(
        self, candidate: Candidate, data: bytes, *, asked: Asked, deadline: Deadline
    ) -> Analysis:
        """Have the candidate answer; raises as `CandidateInference.analyse`."""
        analysis = await self._measured(candidate, data, asked, deadline)
        self._run_beside(candidate, data, asked, analysis)
        return analysis

    def answered(self, data: bytes, asked: Asked, analysis: Analysis, seconds: float) -> None:
        """Note an answer of the active version; in the shadow, compare the candidate's."""
        candidate = self._asked
        if candidate is None or self.report is None or not candidate.concerns(asked.need):
            return
        self._note("active", candidate, analysis, seconds)
        if candidate.plan.mode == "shadow":
            self._run_beside(candidate, data, asked, analysis)

    def blame(self, candidate: Candidate, error: AurumError) -> None:
        """Note that the candidate failed where the active version answered."""
        if not self._is_on(candidate) or self.stopped:
            return
        away = isinstance(error, InferenceUnavailableError)
        verdict = self._guard.failed(away=away)
        if verdict:
            self.stopped = f"{verdict}: {error.detail}"
            self._show()
            log.error(
                "the candidate is no longer asked",
                extra={"stage": candidate.plan.stage, "reason": self.stopped},
            )

    async def refresh(self) -> None:
        """Read which version is on trial now."""
        try:
            found = await self._engine.candidate(deadline=Deadline.after(_PATIENCE_SECONDS))
        except AurumError as error:
            log.debug("trial not read", extra={"reason": error.detail})
            return
        self.candidate = found
        if found is None and self._is_missed():
            return
        self._missed_since = None
        if found is None or not self._is_on(found):
            self._begin(found)

    async def close(self) -> None:
        """Wait for the comparison under way: its call must not be cancelled."""
        if self._beside is not None:
            await asyncio.wait({self._beside})

    @property
    def _asked(self) -> Candidate | None:
        return None if self.stopped else self.candidate

    def _is_on(self, candidate: Candidate) -> bool:
        return self.report is not None and self.report.plan == candidate.plan

    def _is_missed(self) -> bool:
        """Whether the trial may come back: Triton reloads an ensemble when a stage changes."""
        now = asyncio.get_running_loop().time()
        if self._missed_since is None:
            self._missed_since = now
        return self.report is not None and now - self._missed_since < _MISSED_SECONDS

    def _begin(self, found: Candidate | None) -> None:
        if found is None and self.report is None:
            return
        self.report = None if found is None else Report(found.plan, self._metrics)
        self.stopped = ""
        self._guard = FailureGuard()
        self._show()
        plan = None if found is None else found.plan.model_dump()
        log.info("no version is on trial" if plan is None else "a version is on trial", extra=plan)

    def _show(self) -> None:
        self._metrics.running.clear()
        if self.report is not None:
            plan = self.report.plan
            share = plan.share if plan.mode == "canary" and not self.stopped else 0.0
            state = "stopped" if self.stopped else "running"
            labels = (plan.stage, str(plan.version), plan.mode, state)
            self._metrics.running.labels(*labels).set(share)

    async def _measured(
        self, candidate: Candidate, data: bytes, asked: Asked, deadline: Deadline
    ) -> Analysis:
        """Have the candidate answer, and note how long it took or why it failed."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            analysis = await self._engine.analyse(
                candidate, data, need=asked.need, deadline=deadline, look=asked.look
            )
        except AurumError as error:
            if self.report is not None and self._is_on(candidate):
                self.report.failed("candidate", error.code)
            raise
        self._note("candidate", candidate, analysis, loop.time() - started)
        return analysis

    def _note(self, role: Role, candidate: Candidate, analysis: Analysis, seconds: float) -> None:
        if self.report is None or not self._is_on(candidate):
            return
        if role == "candidate":
            self._guard.answered()
        weights = analysis.weights.get(candidate.plan.stage)
        version = None if weights is None else weights.version
        self.report.answered(role, version=version, seconds=seconds, faces=len(analysis.faces))

    def _run_beside(
        self, candidate: Candidate, data: bytes, asked: Asked, analysis: Analysis
    ) -> None:
        if self.report is None or not self._is_on(candidate):
            return
        busy = self._beside is not None and not self._beside.done()
        if busy or asyncio.get_running_loop().time() < self._rests_until:
            self.report.skipped()
            return
        self._beside = self._background.start(
            "trial", self._compare(candidate, data, asked, analysis)
        )

    async def _compare(
        self, candidate: Candidate, data: bytes, asked: Asked, answered: Analysis
    ) -> None:
        """Analyse the image with the other version and compare."""
        await asyncio.sleep(_AFTER_SECONDS)
        loop = asyncio.get_running_loop()
        started = loop.time()
        deadline = Deadline.after(self._timeout_seconds)
        shadow = candidate.plan.mode == "shadow"
        try:
            if shadow:
                other = await self._measured(candidate, data, asked, deadline)
            else:
                other = await self._inference.analyse(
                    data, need=asked.need, deadline=deadline, look=asked.look
                )
        except AurumError as error:
            if self.report is not None and self._is_on(candidate):
                self.report.not_compared()
            if shadow:
                self.blame(candidate, error)
        else:
            active, tried = (answered, other) if shadow else (other, answered)
            if self.report is not None and self._is_on(candidate):
                self.report.differed(compare(active, tried))
        ended = loop.time()
        self._rests_until = ended + _REST * (ended - started)


@asynccontextmanager
async def open_trials(
    engine: CandidateInference,
    inference: Inference,
    metrics: TrialMetrics,
    background: BackgroundTasks,
    *,
    timeout_seconds: float,
) -> AsyncIterator[Trials]:
    """Keep reading which version is on trial until the end of the block."""
    trials = Trials(engine, inference, metrics, background, timeout_seconds=timeout_seconds)
    try:
        async with background.running("trials", lambda: _keep_reading(trials)):
            yield trials
    finally:
        await trials.close()


async def _keep_reading(trials: Trials) -> None:
    while True:
        await trials.refresh()
        await asyncio.sleep(_INTERVAL_SECONDS)
