"""The key schema of the cache, all of it.

An entry is named by the image (SHA-256 of its bytes) and the tenant alone, so that forgetting an
image finds everything cached for it, and nothing of other tenants: neither `cached` nor a receipt
may reveal what others sent. A field of the entry names everything else that an answer depends on:
this schema and release, the tenant again, what was asked for, and the ids of the weights that made
it. Options that only choose among faces are applied afterwards;
`max_faces` is one: an answer with more faces serves a request for fewer.
"""

import hashlib
from functools import cache
from typing import Final

from gateway.types import ActiveVersions, Need
from triton_python_backend.contract import DEFAULT_LOOK, FACE_OUTPUTS, Look
from triton_python_backend.needs import face_outputs_for, networks_for

SCHEMA: Final = 4
"""Raised with every change of what a value means."""
_PREFIX: Final = "aurum:answers:"
_LAYOUT: Final = ",".join(f"{output.name}:{output.dtype}:{output.dims}" for output in FACE_OUTPUTS)
_VERSION: Final = f"{SCHEMA}.{hashlib.blake2b(_LAYOUT.encode(), digest_size=4).hexdigest()}"
"""Changes also with the outputs that a face can have."""


def entry_name(image: str, tenant: str) -> str:
    """Name the entry of an image and a tenant."""
    return f"{image}:{tenant}"


def entry_key(entry: str) -> str:
    """Redis key of all values of an entry."""
    return _PREFIX + entry


def field(
    *, release: str, tenant: str, need: Need, weights: ActiveVersions, look: Look = DEFAULT_LOOK
) -> str | None:
    """Name the answer to a need by these weights.

    None if the id of a network is not known, or an output that is wanted may not be cached.
    """
    networks = networks_for(need)
    ids = [weights[stage].id for stage in networks if stage in weights]
    if len(ids) < len(networks) or not is_cacheable(need):
        return None
    return "|".join([_VERSION, release, str(need.value), look.rotation, look.detail, *ids, tenant])


@cache
def is_cacheable(need: Need) -> bool:
    """Whether all outputs that are wanted may be cached."""
    return all(output.cached for output in face_outputs_for(need))


@cache
def sufficient(need: Need) -> tuple[Need, ...]:
    """List the needs whose answers hold the answer to this one, itself first."""
    everything = Need.NOTHING_MORE
    for output in FACE_OUTPUTS:
        everything |= output.need
    more = (Need(value) for value in range(everything.value + 1))
    return (need, *(each for each in more if need in each and each != need))
