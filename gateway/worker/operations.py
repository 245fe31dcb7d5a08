"""What a worker does with an image: what the operation's own route does."""

import time
from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from gateway.api.faces.answer import Asker, FaceAnswers, FaceOperation
from gateway.api.faces.schemas import FaceOptions
from gateway.api.shapes import dump_json
from gateway.deadline import Deadline
from gateway.errors import InvalidRequestError
from gateway.records.job_types import LeasedItem, Operation

Fields = TypeVar("Fields", bound=BaseModel)


class ItemOperation(Protocol):
    """Answers the images of jobs of one operation."""

    async def answer(self, item: LeasedItem, image: bytes, *, deadline: Deadline) -> bytes:
        """Return the answer as JSON; raises what the operation's own route raises."""
        ...


Operations = Mapping[Operation, ItemOperation]


class AnswerFaces:
    """Scores, detects or embeds."""

    def __init__(self, answers: FaceAnswers, operation: FaceOperation) -> None:
        self._answers = answers
        self._operation = operation

    async def answer(self, item: LeasedItem, image: bytes, *, deadline: Deadline) -> bytes:
        """See `ItemOperation.answer`."""
        started = time.monotonic()
        asker = Asker(
            request_id=request_id_of(item),
            tenant=item.job.tenant,
            deadline=deadline,
            elapsed_ms=lambda: (time.monotonic() - started) * 1000,
        )
        options = read_options(FaceOptions, item.job.options)
        return dump_json(await self._answers.answer(image, self._operation, options, asker))


def request_id_of(item: LeasedItem) -> str:
    """Name the request that an image of a job stands for."""
    return f"{item.job.id}/{item.index}"


def read_options(shape: type[Fields], options: Mapping[str, Any]) -> Fields:
    """Read the fields of a shape from the options of a job, which may have others, too."""
    known = {name: value for name, value in options.items() if name in shape.model_fields}
    try:
        return shape.model_validate(known)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise InvalidRequestError(f"option {field!r} of the job: {first['msg']}") from error
