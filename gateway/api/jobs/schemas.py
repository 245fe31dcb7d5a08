"""Shapes of the JSON that the job routes take and return."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, GetJsonSchemaHandler, TypeAdapter
from pydantic.json_schema import JsonSchemaValue

from gateway.api.collections.schemas import EnrolOut
from gateway.api.faces.schemas import FacesOut
from gateway.api.pagination import PageOptions, PageOut
from gateway.api.shapes import Shape
from gateway.records.job_types import ItemStatus, JobState, Operation, WebhookState

ResultFormat = Literal["json", "ndjson", "csv"]

MAX_WAIT_SECONDS = 60
"""Proxies give up on an answer after about this long."""


class _AnyAnswer:
    """Describes JSON that is passed on as it was stored: the answer of one of these routes."""

    def __get_pydantic_json_schema__(
        self, _: object, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return handler(TypeAdapter(FacesOut | EnrolOut).core_schema)


Result = Annotated[Any, _AnyAnswer()]
"""JSON as bytes within `orjson.Fragment`, which saves reading and writing it again."""


def _split(value: object) -> object:
    return [part for part in value.split(",") if part] if isinstance(value, str) else value


class JobListOptions(PageOptions):
    """Query parameters of the list of jobs."""

    state: Annotated[tuple[JobState, ...], BeforeValidator(_split)] = ()
    """Only jobs in these states, separated by commas."""


class JobOptions(Shape):
    """Query parameters of a job."""

    wait: float = Field(default=0, ge=0, le=MAX_WAIT_SECONDS, allow_inf_nan=False)
    """Seconds to wait for the end of the job before answering."""


class ResultOptions(PageOptions):
    """Query parameters of the results of a job."""

    limit: int = Field(default=100, ge=1, le=1000)
    """Most images of a page. A page with large results is shorter. `ndjson` and `csv` return all
    images unless `limit` is given."""
    status: ItemStatus | None = None
    """Only images with this status."""
    format: ResultFormat | None = None
    """`json` returns a page, `ndjson` one JSON object a line, `csv` a table with one row for each
    image. Without it the header `Accept` decides."""


class EventOptions(Shape):
    """Query parameters of the events of a job."""

    results: bool = False
    """Whether the event of an image contains its result."""


class WebhookOut(Shape):
    """Notification of the end of a job."""

    state: WebhookState
    """`none` until the job ends, `due` until it was delivered, `failed` after the last attempt."""
    attempts: int


class JobOut(Shape):
    """A job. `done` + `failed` is the number of its images that have ended."""

    job_id: str
    operation: Operation
    state: JobState
    total: int
    """Images of the job."""
    done: int
    """Images with a result."""
    failed: int
    """Images that ended with an error."""
    skipped: int
    """Files of archives that are no images."""
    created_at: str
    started_at: str | None
    finished_at: str | None
    expires_at: str | None
    """When the job and its results are deleted; null until it ends."""
    images_per_second: float | None
    """Recent rate; null unless images are ending."""
    seconds_left: float | None
    """Remaining time at that rate; null if it is unknown."""
    detail: str | None
    """Why the job is waiting, or what became of it; null if there is nothing to say."""
    collection: str | None
    """Collection into which the faces are enrolled; null for other operations."""
    webhook: WebhookOut | None
    """Null for a job without a webhook."""


class JobAnswer(JobOut):
    """A job as an answer."""

    request_id: str


class WebhookBody(JobOut):
    """A job as it is sent to its webhook."""

    tenant: str
    """Whose job it is; its own secret signs the webhook."""


class JobsOut(PageOut):
    """Jobs, newest first."""

    jobs: list[JobOut]


class ItemErrorOut(Shape):
    """Why an image has no result; the codes are those of problems."""

    code: str
    detail: str


class ItemOut(Shape):
    """An image of a job."""

    index: int
    """Position of the image in the upload, from 0."""
    name: str
    """File name that was sent."""
    status: ItemStatus
    """`queued` until the image has ended, `cancelled` if it will not be worked on any more."""
    result: Result = Field(default_factory=dict)
    """The answer of the operation's own route to the image; with `status` `ok` only."""
    error: ItemErrorOut | None = None
    """Why the image has no result; with `status` `queued`, why its last attempt failed."""


class JobResultsOut(PageOut):
    """Images of a job in the order of the upload, those without a result included."""

    job_id: str
    results: list[ItemOut]
