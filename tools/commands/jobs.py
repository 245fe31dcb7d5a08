"""`aurum jobs`: submit many photos as a job of the service, follow it, read its results."""

import json
import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import IO, Annotated, Any, Final

import typer
from aurum_client import AurumClient, Job, NamedImage, TimeLimitError, UploadSource, images_in

from gateway.errors import ConfigurationError, NotFoundError
from gateway.jobs.webhook_policy import WebhookPolicy
from gateway.settings import load_settings
from gateway.types import DEFAULT_TENANT
from tools.batch import options as given
from tools.errors import BatchError
from tools.jobs import display
from tools.jobs.connection import Target, connected, note
from tools.jobs.watching import TIME_PASSED, status_of, upload_bar, watch

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Process many photos in the background: submit, watch, read results.",
)
_EXIT_STATUSES: Final = (
    "Exit status: 0 all images have results; 1 a wrong option or a rejected request; 2 some images "
    "failed, or the job was cancelled; 3 the service is not reachable; 4 --timeout passed; 130 "
    "interrupted, while the job goes on."
)
_CHANGE_STATUSES: Final = (
    "Exit status: 0 done; 1 a wrong option or a rejected request; 3 the service is not reachable."
)
JobId = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job.")]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON.")]


class Operation(StrEnum):
    """What to do with each image."""

    SCORE = "score"
    DETECT = "detect"
    EMBED = "embed"
    ENROL = "enrol"


class State(StrEnum):
    """States of jobs."""

    RECEIVING = "receiving"
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class Status(StrEnum):
    """Statuses of images."""

    OK = "ok"
    ERROR = "error"
    QUEUED = "queued"
    CANCELLED = "cancelled"


class ResultFormat(StrEnum):
    """How results are written."""

    TABLE = "table"
    NDJSON = "ndjson"
    CSV = "csv"


class Faces(StrEnum):
    """Faces of an image to enrol."""

    LARGEST = "largest"
    ALL = "all"
    SINGLE = "single"


class SubjectFrom(StrEnum):
    """Where the subject of an image comes from."""

    FOLDER = "folder"
    NAME = "name"


@app.callback()
def _group() -> None:
    """Process many photos in the background: submit, watch, read results."""


@app.command(cls=given.BatchCommand, epilog=_EXIT_STATUSES)
def submit(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH", help="Images, folders, or archives (zip, tar, tar.gz)."),
    ],
    *,
    operation: Annotated[Operation, typer.Option(help="What to do.")] = Operation.SCORE,
    include: Annotated[
        list[str] | None,
        typer.Option(help="Further values of each face: embedding, crop, score; repeatable."),
    ] = None,
    max_faces: given.MaxFaces = None,
    min_confidence: Annotated[
        float | None, typer.Option(min=0, max=1, help="Leave out faces with a lower confidence.")
    ] = None,
    rotation: Annotated[
        str | None, typer.Option(help="`auto` also searches rotated pictures; `off` does not.")
    ] = None,
    detail: Annotated[
        str | None, typer.Option(help="`high` also finds small faces; takes seconds.")
    ] = None,
    collection: Annotated[str | None, typer.Option(help="`enrol`: the collection.")] = None,
    subject: Annotated[str | None, typer.Option(help="`enrol`: subject of all faces.")] = None,
    subject_from: Annotated[
        SubjectFrom | None, typer.Option(help="`enrol`: take subjects from folders or file names.")
    ] = None,
    faces: Annotated[
        Faces | None, typer.Option(help="`enrol`: faces of each image; default largest.")
    ] = None,
    quality: Annotated[
        str | None, typer.Option(help="`enrol`: lowest quality; default: the collection's.")
    ] = None,
    metadata: Annotated[
        str | None, typer.Option(help="`enrol`: JSON object that is added to each face.")
    ] = None,
    consent: Annotated[
        str | None,
        typer.Option(help="`enrol`: JSON: reference, given_at, expires_at; kept with subjects."),
    ] = None,
    purpose: Annotated[
        str | None, typer.Option(help="`enrol`: why they are enrolled; kept with subjects.")
    ] = None,
    webhook: Annotated[str | None, typer.Option(help="URL to call when the job has ended.")] = None,
    key: Annotated[
        str | None,
        typer.Option(help="Idempotency key: the same upload with it returns the first job."),
    ] = None,
    follow: Annotated[bool, typer.Option("--watch", help="Wait for the end, as `watch`.")] = False,
    as_json: AsJson = False,
    url: given.Url = None,
    api_key_file: given.ApiKeyFile = None,
) -> None:
    """Upload photos as a job and print its id; --watch waits for its end."""
    with connected(Target(url, api_key_file)) as client:
        with upload_bar() as progress:
            job = client.jobs.submit(
                list(_sources(paths)),
                operation=operation.value,
                include=include or (),
                max_faces=max_faces,
                min_confidence=min_confidence,
                rotation=rotation,
                detail=detail,
                collection=collection,
                subject=subject,
                subject_from=subject_from,
                faces=faces,
                quality=quality,
                metadata=_parse_object("--metadata", metadata),
                consent=_parse_object("--consent", consent),
                purpose=purpose,
                webhook=webhook,
                idempotency_key=key,
                progress=progress,
            )
        if follow:
            images = "1 image" if job.total == 1 else f"{job.total:,} images"
            note(f"job {job.job_id}: {images}")
            _watch(client, job, as_json=as_json, timeout=None)
        typer.echo(display.job_json(job) if as_json else job.job_id)
        if job.detail:
            note(job.detail)


@app.command("list", cls=given.BatchCommand, epilog=_CHANGE_STATUSES)
def list_jobs(
    *,
    state: Annotated[
        list[State] | None, typer.Option(help="Only jobs in this state; repeatable.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Most jobs, newest first.")] = 20,
    as_json: AsJson = False,
    url: given.Url = None,
    api_key_file: given.ApiKeyFile = None,
) -> None:
    """List jobs, newest first."""
    with connected(Target(url, api_key_file)) as client:
        found: list[Job] = []
        states = [each.value for each in state or ()]
        for job in client.jobs.list(state=states, page_size=min(limit, 100)):
            found.append(job)
            if len(found) == limit:
                break
        if as_json:
            typer.echo(json.dumps([json.loads(display.job_json(job)) for job in found], indent=2))
        elif found:
            display.print_table(display.jobs_table(found))
        else:
            note("no jobs")


def _job_command(name: str, ask: Callable[[AurumClient, str], Job], summary: str) -> None:
    """Add a command that asks for something of a job and prints the job."""

    @app.command(name, cls=given.BatchCommand, epilog=_CHANGE_STATUSES, help=summary)
    def command(
        job_id: JobId,
        *,
        as_json: AsJson = False,
        url: given.Url = None,
        api_key_file: given.ApiKeyFile = None,
    ) -> None:
        with connected(Target(url, api_key_file)) as client:
            job = ask(client, job_id)
            typer.echo(display.job_json(job) if as_json else "\n".join(display.job_lines(job)))


_job_command(
    "show",
    lambda client, job_id: client.jobs.get(job_id),
    "Show a job: state, counts, rate, time left.",
)


@app.command(cls=given.BatchCommand, epilog=_CHANGE_STATUSES)
def results(
    job_id: JobId,
    *,
    status: Annotated[Status | None, typer.Option(help="Only images with this status.")] = None,
    format_: Annotated[
        ResultFormat | None,
        typer.Option(
            "--format", help="Default: by the suffix of --output; table on a terminal, else ndjson."
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="File to write (.ndjson, .csv).")] = None,
    url: given.Url = None,
    api_key_file: given.ApiKeyFile = None,
) -> None:
    """Write the results of a job, in the order of the upload; also while it is running."""
    with connected(Target(url, api_key_file)) as client:
        chosen = format_ or _default_format(output)
        wanted = None if status is None else status.value
        if chosen is ResultFormat.TABLE:
            if output is not None:
                raise BatchError("--format table is for the terminal; use ndjson or csv")
            display.print_table(display.item_table(client.jobs.results(job_id, status=wanted)))
            return
        chunks = client.jobs.download_results(job_id, format=chosen.value, status=wanted)
        if output is None:
            _write(chunks, sys.stdout.buffer)
            return
        # nothing is created for a job that does not exist
        client.jobs.get(job_id)
        try:
            with output.open("xb") as file:
                _write(chunks, file)
        except FileExistsError as error:
            raise BatchError(f"{output} exists") from error


@app.command("watch", cls=given.BatchCommand, epilog=_EXIT_STATUSES)
def watch_job(
    job_id: JobId,
    *,
    timeout: Annotated[
        float | None, typer.Option(min=0, help="Seconds after which to stop watching.")
    ] = None,
    as_json: AsJson = False,
    url: given.Url = None,
    api_key_file: given.ApiKeyFile = None,
) -> None:
    """Follow a job to its end: a progress bar, failed images, then a summary."""
    with connected(Target(url, api_key_file)) as client:
        _watch(client, client.jobs.get(job_id), as_json=as_json, timeout=timeout)


_job_command(
    "retry",
    lambda client, job_id: client.jobs.retry(job_id),
    "Queue the failed images of a job again.",
)
_job_command(
    "cancel",
    lambda client, job_id: client.jobs.cancel(job_id),
    "End a job; results so far stay until it expires.",
)
_job_command(
    "pause",
    lambda client, job_id: client.jobs.pause(job_id),
    "Start no further images of a job.",
)
_job_command(
    "resume",
    lambda client, job_id: client.jobs.resume(job_id),
    "Continue a paused job.",
)


@app.command("webhook-secret", cls=given.BatchCommand)
def webhook_secret(
    *,
    tenant: Annotated[str, typer.Option(help="Whose jobs send the webhooks.")] = DEFAULT_TENANT,
) -> None:
    """Write the secret that signs the webhooks of a tenant, from this machine's settings."""
    try:
        typer.echo(WebhookPolicy.of(load_settings()).secret_of(tenant))
    except (ConfigurationError, NotFoundError) as error:
        note(f"error: {error}; set AURUM_WEBHOOK_HOSTS and AURUM_WEBHOOK_SECRET")
        raise typer.Exit(BatchError.exit_status) from error


def _watch(client: AurumClient, job: Job, *, as_json: bool, timeout: float | None) -> None:
    """Follow a job and end the command with the status of its end."""
    try:
        ended = watch(client, job, timeout=timeout)
    except KeyboardInterrupt:
        note(f"the job goes on; follow it with: aurum jobs watch {job.job_id}")
        raise
    except TimeLimitError as error:
        if timeout is None:
            raise
        note(f"job {job.job_id} has not ended within {timeout:g} s; it goes on")
        raise typer.Exit(TIME_PASSED) from error
    if as_json:
        typer.echo(display.job_json(ended))
    else:
        typer.echo(f"{ended.job_id} {ended.state}: {display.counts(ended)}")
    raise typer.Exit(status_of(ended))


def _sources(paths: list[Path]) -> Iterator[UploadSource]:
    """Replace folders by their images, named by their paths within it.

    Of several folders the names begin with the folder's own.
    """
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        prefix = f"{path.resolve().name}/" if len(paths) > 1 else ""
        for found in images_in(path):
            yield NamedImage(prefix + found.name, found.image)


def _parse_object(option: str, text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        found = json.loads(text)
    except ValueError as error:
        raise BatchError(f"{option}: not JSON: {error}") from error
    if not isinstance(found, dict):
        raise BatchError(f"{option}: not a JSON object")
    return found


def _default_format(output: Path | None) -> ResultFormat:
    if output is None:
        return ResultFormat.TABLE if sys.stdout.isatty() else ResultFormat.NDJSON
    return ResultFormat.CSV if output.suffix.lower() == ".csv" else ResultFormat.NDJSON


def _write(chunks: Iterator[bytes], file: IO[bytes]) -> None:
    for chunk in chunks:
        file.write(chunk)
    file.flush()
