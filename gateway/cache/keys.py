"""The key schema of the cache, all of it.

An entry is named by the image alone (SHA-256 of its bytes), so that forgetting an image finds
everything kept of it. A field on the entry names all else that an answer depends on: this schema
and release, the tenant (nobody learns from `cached` what others sent), what was asked for, and
the ids of the weights that made it. Options that only choose among faces are applied afterwards;
`max_faces` is one: an answer with more faces serves a request for fewer.
"""

from typing import Final

from gateway.types import InService, Need
from triton_python_backend.contract import DEFAULT_LOOK, Look

SCHEMA: Final = 2
"""Raised with every change of what a value means."""
_PREFIX: Final = "aurum:answers:"
_EVERYTHING: Final = Need.EMBEDDING | Need.SCORE | Need.CROPS
_ALL_NEEDS: Final = tuple(Need(value) for value in range(_EVERYTHING.value + 1))


def entry_key(image: str) -> str:
    """Redis key of all values of an image."""
    return _PREFIX + image


def field(
    *, release: str, tenant: str, need: Need, weights: InService, look: Look = DEFAULT_LOOK
) -> str | None:
    """Name the answer to a need by these weights; None if an id that it takes is not known."""
    ids = [weights.detection]
    if Need.EMBEDDING in need or Need.SCORE in need:
        ids.append(weights.embedding)
    if Need.SCORE in need:
        ids.append(weights.scoring)
    known = [each.id for each in ids if each is not None]
    if len(known) < len(ids):
        return None
    how = [str(need.value), look.rotation, look.detail]
    return "|".join([str(SCHEMA), release, *how, *known, tenant])


def sufficient(need: Need) -> tuple[Need, ...]:
    """List the needs whose answers hold the answer to this one, itself first."""
    return (need, *(each for each in _ALL_NEEDS if need in each and each != need))
