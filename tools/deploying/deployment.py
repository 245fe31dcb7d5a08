"""Deployments: forward step by step, and back to the release before if any step fails."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from gateway.settings import Settings
from tools.deploying import environment, models, preparation
from tools.deploying.engine import Engine
from tools.deploying.errors import DeployError, StuckError
from tools.deploying.interrupts import Interrupts
from tools.deploying.journal import Event, Journal
from tools.deploying.output import Output
from tools.deploying.photo_key import key_for_photo
from tools.deploying.preparation import Order
from tools.deploying.release import Release, exists, forget, load, present_images
from tools.deploying.smoke import prove
from tools.deploying.waiting import wait_until_well

_STEPS: Final = 8
_STEPS_BACK: Final = 4
_KEPT_RELEASES: Final = 5
_LOG_LINES: Final = 50
_SETTLE_SECONDS: Final = 5.0
"""A program that cannot start ends sooner, and the engine starts it again within a second."""


class Deployer:
    """Deploys with an engine; what it did is in the journal of the home."""

    def __init__(self, engine: Engine, settings: Settings, order: Order, output: Output) -> None:
        """Touch nothing yet. settings: with an absolute home."""
        self._engine = engine
        self._settings = settings
        self._order = order
        self._output = output
        self._journal = Journal(settings.home)
        self._interrupts = Interrupts(output.say)

    def deploy(self) -> Release:
        """Make a release and put it into service.

        Raises:
            DeployError: it failed, and the release before runs (again); the text says why.
            StuckError: going back failed, too.
            UnderWayError: another process deploys.

        """
        return self._attempt(self._forward)

    def roll_back(self, wanted: int | None) -> Release:
        """Put an earlier release into service.

        None takes the one before the current one; after a deployment that was killed, or could not
        go back, the one that ran before it. Raises as `deploy`; if the earlier one does not work,
        the current one runs again.
        """
        self._journal.check()
        # a request that cannot be met is no deployment
        release = self._earlier(wanted)

        def back(number: int) -> Release:
            return self._back_to(number, release)

        return self._attempt(back)

    def _earlier(self, wanted: int | None) -> Release:
        current, is_settled = self._journal.current(), self._journal.is_settled()
        target = wanted
        if wanted is None:
            target = self._journal.before_current() if is_settled else current
        if target is None:
            raise DeployError("there is no earlier release")
        if target == current and is_settled:
            raise DeployError(f"release {target} runs already")
        try:
            return load(self._journal.folder_of(target))
        except DeployError as error:
            kept = ", ".join(map(str, self._kept())) or "none"
            raise DeployError(f"{error}; releases that are kept: {kept}") from error

    def _kept(self) -> list[int]:
        """Releases that can be returned to, newest first."""
        deployed = [e.release for e in self._journal.entries() if e.event is Event.DEPLOYED]
        found = dict.fromkeys(each for each in reversed(deployed) if each is not None)
        return [each for each in found if exists(self._journal.folder_of(each))]

    def _before(self) -> Release | None:
        """The release that runs, which a deployment that fails returns to.

        Raises DeployError if it cannot be read.
        """
        current = self._journal.current()
        if current is None:
            return None
        try:
            return load(self._journal.folder_of(current))
        except DeployError as error:
            raise DeployError(
                f"the release that runs cannot be returned to: {error}; put it back from a "
                "backup, or go to another one: aurum deploy rollback N"
            ) from error

    def plan(self) -> None:
        """Check, and say what a deployment would do; raises DeployError if the check fails."""
        say, order, settings = self._output.note, self._order, self._settings
        self._journal.check()
        unfinished = self._journal.unfinished()
        if unfinished:
            say(f"would first roll back deployment {unfinished[0].number}, which was killed")
        self._output.say("check the environment")
        configuration = preparation.check(
            self._engine, order, settings, self._output, before=self._before()
        )
        self._output.say("verify the models")
        say(models.describe_verification(configuration.model_repository()))
        self._output.say("fetch images, create folders, start")
        if order.pull:
            self._engine.pull(order.project)
        if order.build and configuration.builds():
            self._engine.build(order.project)
        for line in environment.create_folders(configuration, {}, dry_run=True):
            say(line)
        number = self._journal.next_number()
        say(f"would keep release {number} in {self._journal.folder_of(number)}")
        self._engine.up(order.project)
        self._output.say("prove")
        say(f"would wait up to {order.start_seconds:g} s for {', '.join(configuration.services)}")
        say(f"would send a photo to {preparation.url_of(order, configuration)}")
        current = self._journal.current()
        say(
            "would stop what was started if that failed"
            if current is None
            else f"would return to release {current} if that failed"
        )

    def _attempt(self, work: Callable[[int], Release]) -> Release:
        with self._journal.locked(), self._interrupts.caught():
            self._journal.check()
            number = self._journal.next_number()
            with self._output.logging_to(self._journal.log_of(number)):
                with self._interrupts.held_back():
                    self._finish_earlier()
                before = self._journal.current()
                self._journal.append(number, Event.BEGUN, release=before)
                try:
                    release = work(number)
                    self._journal.append(number, Event.PROVEN, release=release.number)
                    self._journal.append(number, Event.DEPLOYED, release=release.number)
                except BaseException as error:
                    self._interrupts.refuse()
                    reason = _reason(error)
                    self._output.say(f"failed: {reason}")
                    outcome = self._return_to(number, before, reason)
                    if isinstance(error, DeployError | KeyboardInterrupt | OSError):
                        raise DeployError(
                            f"deployment {number} failed: {reason}; {outcome}; "
                            f"log: {self._journal.log_of(number)}"
                        ) from error
                    raise
                self._forget_old(release.number)
                return release

    def _forward(self, number: int) -> Release:
        order, engine, output, settings = self._order, self._engine, self._output, self._settings
        with output.step(1, _STEPS, "check the environment"):
            configuration = preparation.check(
                engine, order, settings, output, before=self._before()
            )
        with output.step(2, _STEPS, "verify the models"):
            served = preparation.verify_models(configuration, settings, output)
        with output.step(3, _STEPS, "fetch the images"):
            images = preparation.fetch_images(engine, order, configuration, output)
        with output.step(4, _STEPS, "create missing folders"):
            preparation.create_folders(configuration, images, output)
            preparation.check_readable(configuration, images)
        with output.step(5, _STEPS, f"keep release {number}"):
            folder = self._journal.folder_of(number)
            release = preparation.make_release(
                engine,
                number,
                order,
                configuration,
                images,
                served,
                folder=folder,
                output=output,
            )
            output.note(str(folder))
        with output.step(6, _STEPS, "start"):
            self._start(number, release)
        with output.step(7, _STEPS, "wait until all parts are healthy"):
            self._wait(release)
        with output.step(8, _STEPS, "send a photo"):
            self._prove(release)
        return release

    def _back_to(self, number: int, release: Release) -> Release:
        output = self._output
        with output.step(1, _STEPS_BACK, f"find the images of release {release.number}"):
            present_images(release, self._engine)
        with output.step(2, _STEPS_BACK, "put its models back"):
            self._restore_models(release)
        with output.step(3, _STEPS_BACK, "start and wait until all parts are healthy"):
            self._start(number, release)
            self._wait(release)
        with output.step(4, _STEPS_BACK, "send a photo"):
            self._prove(release)
        return release

    def _finish_earlier(self) -> None:
        """End a deployment that was killed: what was proven stays, anything else goes back."""
        entries = self._journal.unfinished()
        if not entries:
            return
        number = entries[0].number
        last = entries[-1]
        self._output.say(f"deployment {number} was killed while it was {last.event}")
        if last.event is Event.PROVEN:
            self._journal.append(number, Event.DEPLOYED, release=last.release)
            self._output.note(f"release {last.release} had been proven and stays")
            return
        outcome = self._return_to(number, self._journal.current(), "it was killed")
        self._output.note(outcome)

    def _return_to(self, number: int, before: int | None, reason: str) -> str:
        """Put the release before into service; returns what runs now.

        Raises StuckError if that fails.
        """
        events = {entry.event for entry in self._journal.entries() if entry.number == number}
        started = Event.STARTING in events
        self._record(number, Event.ROLLING_BACK, before, reason)
        target = "nothing" if before is None else f"release {before}"
        try:
            if started:
                self._output.say(f"rolling back to {target}")
                self._log_containers(number)
                if before is None:
                    self._stop(number)
                else:
                    self._serve_again(load(self._journal.folder_of(before)))
        except (DeployError, OSError) as error:
            self._record(number, Event.FAILED, before, _reason(error))
            raise StuckError(
                f"deployment {number} failed: {reason}; going back to {target} failed, too: "
                f"{_reason(error)}; log: {self._journal.log_of(number)}"
            ) from error
        with suppress(OSError):
            forget(self._journal.folder_of(number), self._engine)
        self._record(number, Event.ROLLED_BACK, before, reason)
        self._output.say(f"{target} runs" if started else "nothing that runs was touched")
        return f"{target} runs"

    def _record(self, number: int, event: Event, release: int | None, reason: str) -> None:
        """Write to the journal if it can be written: the way back goes on without it."""
        try:
            self._journal.append(number, event, release=release, reason=reason)
        except DeployError as error:
            self._output.say(f"{error}; the next deployment will go back once more")

    def _serve_again(self, release: Release) -> None:
        present_images(release, self._engine)
        self._restore_models(release)
        self._engine.up(release.project_in(self._journal.folder_of(release.number)))
        self._wait(release)
        self._prove(release)

    def _start(self, number: int, release: Release) -> None:
        self._journal.append(number, Event.STARTING, release=release.number)
        self._engine.up(release.project_in(self._journal.folder_of(release.number)))

    def _stop(self, number: int) -> None:
        """Stop what a first deployment started."""
        folder = self._journal.folder_of(number)
        self._engine.down(load(folder).project_in(folder))

    def _wait(self, release: Release) -> None:
        wait_until_well(
            self._engine,
            release.project_in(self._journal.folder_of(release.number)),
            list(release.images),
            limit_seconds=self._order.start_seconds,
            settle_seconds=_SETTLE_SECONDS,
            report=self._output.note,
        )

    def _prove(self, release: Release) -> None:
        project = release.project_in(self._journal.folder_of(release.number))
        with key_for_photo(
            self._engine, project, release, self._order.headers, report=self._output.note
        ) as headers:
            prove(
                self._order.url or release.url,
                release.models,
                scores=release.scores,
                settings=self._settings,
                headers=headers,
                limit_seconds=self._order.photo_seconds,
                report=self._output.note,
            )

    def _restore_models(self, release: Release) -> None:
        models.restore(
            Path(release.repository),
            self._settings.home,
            release.models,
            report=self._output.note,
        )

    def _log_containers(self, number: int) -> None:
        """Keep the last lines of the containers, which are about to be replaced."""
        entries = [entry for entry in self._journal.entries() if entry.number == number]
        [release, *_] = [e.release for e in entries if e.event is Event.STARTING]
        folder = self._journal.folder_of(release or number)
        try:
            text = self._engine.logs(load(folder).project_in(folder), lines=_LOG_LINES)
        except DeployError as error:
            text = f"the logs of the containers cannot be read: {error}"
        for line in text.splitlines():
            self._output.log(line)

    def _forget_old(self, current: int) -> None:
        """Remove all but the newest releases, and the current one, which may be an old one."""
        try:
            for release in self._kept()[_KEPT_RELEASES:]:
                if release != current:
                    forget(self._journal.folder_of(release), self._engine)
        except (DeployError, OSError) as error:
            self._output.say(f"an old release cannot be removed: {_reason(error)}")


def _reason(error: BaseException) -> str:
    """Say why in one line."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__
