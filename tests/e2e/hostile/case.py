"""One hostile input: its kind, its name, the routes that it is sent to, the answer it must get."""

from collections.abc import Mapping
from dataclasses import dataclass, field

Expected = tuple[int, str | None]
"""Status, and the code of the problem; None for an answer that is no problem."""


@dataclass(frozen=True, slots=True)
class Case:
    """An input in the form that each route takes.

    requests: the bytes on the wire by the name of the route. others: what routes answer that do
    not answer as `expected`.
    """

    kind: str
    name: str
    requests: Mapping[str, bytes]
    expected: Expected
    others: Mapping[str, Expected] = field(default_factory=dict)

    def expected_of(self, route: str) -> Expected:
        """Return what a route must answer."""
        return self.others.get(route, self.expected)


INVALID: Expected = (400, "invalid_request")
UNAUTHORIZED: Expected = (401, "unauthorized")
NOT_FOUND: Expected = (404, "not_found")
TOO_LARGE: Expected = (413, "image_too_large")
UNKNOWN_TYPE: Expected = (415, "unsupported_media_type")
BAD_IMAGE: Expected = (422, "invalid_image")
NO_FACE: Expected = (422, "no_face")
FINE: Expected = (200, None)
CREATED: Expected = (201, None)
ACCEPTED: Expected = (202, None)
