"""The optional outputs of a face, and the flags with which a request selects them."""

import enum
from dataclasses import dataclass


class Need(enum.Flag):
    """The values that a request needs beyond boxes, landmarks, confidences and quality.

    New members go to the end: the cache keys hold their values.
    """

    NOTHING_MORE = 0
    EMBEDDING = enum.auto()
    SCORE = enum.auto()
    CROPS = enum.auto()


@dataclass(frozen=True, slots=True)
class FaceOutput:
    """An output of a stage that becomes a field of each face."""

    name: str
    """Name of the field, in `Face.outputs` and in JSON."""
    tensor: str
    """The ensemble's output, with one row per face."""
    dtype: str
    dims: tuple[int, ...]
    """Shape of one face's value: () is a number, (-1,) a vector of any length."""
    need: Need
    """The flag with which a request selects it."""
    includable: bool = True
    """Whether `?include=<name>` adds it to the faces of an answer."""
    cached: bool = True
    """Whether responses with this output may be cached."""
    watched: str | None = None
    """Name of the measure that drift detection follows: of a number the value itself, of a vector
    its cosine to the reference's mean direction; None: not followed."""
    compared: str | None = None
    """The measure between two versions on one face: a difference of numbers, a cosine of vectors;
    None: not compared."""
    tolerance: float | None = None
    """Tolerance of the golden probe: on the number, or on 1 minus the cosine of a vector; None: the
    probe does not check it."""

    @property
    def is_number(self) -> bool:
        """Whether its value is one number."""
        return self.dims == ()

    @property
    def is_vector(self) -> bool:
        """Whether its value is a vector, whose length depends on the weights."""
        return self.dims == (-1,)
