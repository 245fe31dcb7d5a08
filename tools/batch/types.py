"""What passes through a bulk command: inputs, lines of the output, faces to draw."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Photo:
    """An image to ask about.

    name: path as it was given, within an archive below the archive's. sha256: of the bytes.
    weight: bytes of input that were read for it. member: path within the archive, if any.
    """

    name: str
    data: bytes
    sha256: str
    weight: int
    member: str | None = None

    @classmethod
    def of(cls, name: str, data: bytes, *, weight: int, member: str | None = None) -> "Photo":
        """Make a photo of its bytes."""
        return cls(name, data, hashlib.sha256(data).hexdigest(), weight, member)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that is no image."""

    name: str
    weight: int


@dataclass(frozen=True, slots=True)
class Refused:
    """An input that cannot or must not be read."""

    name: str
    reason: str
    weight: int


Input = Photo | Skipped | Refused
"""What a place that was named contains."""


class Outcome(StrEnum):
    """What became of an input."""

    ANSWERED = "answered"
    NO_FACE = "no_face"
    ENROLLED = "enrolled"
    DUPLICATE = "duplicate"
    REFUSED = "refused"
    FAILED = "failed"


DONE: Final = frozenset(Outcome) - {Outcome.REFUSED, Outcome.FAILED}
"""Outcomes that `--resume` does not ask for again."""


@dataclass(frozen=True, slots=True)
class Line:
    """The outcome of one input.

    answer: the body of the service's answer. error: `code` and `detail`. more: further fields.
    """

    name: str
    sha256: str | None
    outcome: Outcome
    answer: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def failed(
        cls, photo: Photo, error: Mapping[str, Any], outcome: Outcome = Outcome.FAILED, **more: Any
    ) -> "Line":
        """Make the line of a photo that got no answer."""
        shown = {"code": error.get("code", "internal"), "detail": error.get("detail", "")}
        return cls(photo.name, photo.sha256, outcome, error=shown, more=more)

    @property
    def is_done(self) -> bool:
        """Whether it counts as a success."""
        return self.outcome in DONE

    def to_json(self) -> dict[str, Any]:
        """Return its members in the order in which they are written."""
        line: dict[str, Any] = {
            "input": self.name,
            "sha256": self.sha256,
            "outcome": self.outcome.value,
            **self.more,
        }
        if self.answer is not None:
            line["answer"] = self.answer
        if self.error is not None:
            line["error"] = self.error
        return line

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> "Line":
        """Read what `to_json` gave; raises KeyError or ValueError for anything else."""
        known = {"input", "sha256", "outcome", "answer", "error"}
        return cls(
            line["input"],
            line["sha256"],
            Outcome(line["outcome"]),
            line.get("answer"),
            line.get("error"),
            {name: value for name, value in line.items() if name not in known},
        )


def printable(text: str) -> str:
    r"""Return a text for a terminal: control characters become `\x1b` and the like."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
