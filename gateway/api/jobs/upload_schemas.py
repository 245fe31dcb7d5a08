"""Shapes of what the route that creates jobs takes."""

from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema

from gateway.api.collections.consent import SentConsent, Text
from gateway.api.collections.schemas import Gate, Metadata, Name, Subject
from gateway.api.faces.schemas import FaceOptions
from gateway.api.fields import parse_json
from gateway.api.jobs.schemas import MAX_WAIT_SECONDS
from gateway.api.shapes import Shape
from gateway.outbound.urls import MAX_URL_CHARACTERS
from gateway.records.job_types import Operation

SubjectFrom = Literal["folder", "name"]


def _parse(value: object) -> object:
    """Read JSON from a query; raises InvalidRequestError as everywhere else."""
    return parse_json(value, "query parameter 'metadata'") if isinstance(value, str) else value


class BatchOptions(FaceOptions):
    """Query parameters of a new job: the operation and its options."""

    operation: Operation = "score"
    """What to do with each image; options are those of the operation's own route."""
    webhook: str | None = Field(default=None, max_length=2000)
    """URL that is called when the job has ended; its host must be allowed by the service
    (`AURUM_WEBHOOK_HOSTS`)."""
    wait: float = Field(default=0, ge=0, le=MAX_WAIT_SECONDS, allow_inf_nan=False)
    """Seconds to wait for the end of the job; 200 answers one that has ended by then."""
    collection: Name | None = None
    """`enrol`: the collection, which must exist."""
    subject: Subject | None = None
    """`enrol`: who all faces belong to."""
    subject_from: SubjectFrom | None = None
    """`enrol`: take the subject of each image from its folder, or from its name without ending and
    number; without it, and without `subject`, each face is a subject of its own."""
    faces: Literal["largest", "all", "single"] = "largest"
    """`enrol`: which faces of an image to enrol; `single` refuses an image with several faces."""
    quality: Gate | None = None
    """`enrol`: lowest quality, instead of that of the collection."""
    metadata: Annotated[Metadata, BeforeValidator(_parse)] = Field(default_factory=dict)
    """`enrol`: flat JSON object of strings, numbers and booleans, added to each face."""
    consent: Annotated[SentConsent | None, BeforeValidator(_parse)] = None
    """`enrol`: JSON object; what the subjects have agreed to, as for the route that enrols."""
    purpose: Text | None = None
    """`enrol`: why the subjects are enrolled."""


_ENROLMENT: Final = ("subject", "subject_from", "faces", "quality", "metadata")
ENROL_OPTIONS: Final = (*_ENROLMENT, "consent", "purpose")
FACE_OPTIONS: Final = ("max_faces", "min_confidence", "rotation", "detail")

_BASE64: Final = {
    "type": "string",
    "minLength": 1,
    "contentEncoding": "base64",
    "description": "Standard or URL-safe alphabet, padding optional; or a data URI.",
}
_BYTES: Final = {"type": "string", "contentMediaType": "application/octet-stream"}


_Url = Annotated[str, Field(min_length=1, max_length=MAX_URL_CHARACTERS)]


class BatchUrlIn(Shape):
    """The URL of an image, which the service fetches if it is set up for that."""

    image_url: _Url
    """http or https."""
    name: str | None = Field(default=None, max_length=1000)
    """Shown with the result; without it, host and path of the URL."""


class BatchImageIn(Shape):
    """An image with a name."""

    image: Annotated[Any, WithJsonSchema(_BASE64)]
    name: str | None = Field(default=None, max_length=1000)
    """Shown with the result."""


class BatchIn(Shape):
    """The images of a job as JSON."""

    images: Annotated[
        list[Annotated[Any, WithJsonSchema(_BASE64)] | BatchImageIn | BatchUrlIn],
        Field(min_length=1),
    ]


class BatchForm(Shape):
    """The images of a job as a form; a file that is a ZIP, tar or tar.gz contributes its images.

    Send one file or one URL at least; both fields may occur several times.
    """

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": ["images"]}, {"required": ["image_url"]}]}
    )

    images: list[Annotated[Any, WithJsonSchema(_BYTES)]] = Field(default_factory=list, min_length=1)
    image_url: list[_Url] = Field(default_factory=list, min_length=1)
