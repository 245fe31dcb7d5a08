"""Follows a job with a progress bar, from its start or from where it is, to its end."""

from typing import Final

from aurum_client import AurumClient, Job, JobEvent
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from tools.batch.types import printable
from tools.jobs.display import counts, duration

DONE: Final = 0
FAILED: Final = 2
"""Images failed, or the job ended before it was done."""
TIME_PASSED: Final = 4


def status_of(job: Job) -> int:
    """Return the exit status for a job that has ended."""
    return DONE if job.state == "done" and not job.failed else FAILED


def watch(client: AurumClient, job: Job, *, timeout: float | None = None) -> Job:
    """Show the progress of a job on standard error until it ends.

    On a terminal there is a bar with rate and time left; failed images are listed in any case.

    Raises TimeLimitError after `timeout` seconds.
    """
    with _Bar(job) as bar:
        for event in client.jobs.events(job.job_id, timeout=timeout):
            bar.show(event)
    return client.jobs.get(job.job_id)


class _Bar:
    """A progress bar of images; nothing but failures if standard error is not a terminal."""

    def __init__(self, job: Job) -> None:
        console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
        self._progress = Progress(
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[text]}"),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._progress.add_task("", total=job.total or None, text="")
        self._note = ""
        self._update(job)

    def __enter__(self) -> "_Bar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, event: JobEvent) -> None:
        """Show what an event reports."""
        item, job = event.item, event.job
        if item is not None and item.status == "error" and item.error is not None:
            text = f"failed: {item.name}: {item.error.code}: {item.error.detail}"
            self._progress.console.print(printable(text))
        if job is not None:
            self._update(job)
            if job.detail and job.detail != self._note and not job.is_finished:
                self._progress.console.print(printable(job.detail))
                self._note = job.detail

    def _update(self, job: Job) -> None:
        text = f"{counts(job)}, {job.state}"
        if job.images_per_second is not None:
            text += f"  {job.images_per_second:.1f}/s"
        if job.seconds_left is not None:
            text += f"  {duration(job.seconds_left)} left"
        ended = job.done + job.failed
        self._progress.update(self._task, completed=ended, total=job.total or None, text=text)
