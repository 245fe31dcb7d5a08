"""Changes bytes of inputs at random, so that a few hundred inputs become thousands."""

import random
from collections.abc import Iterable, Iterator
from dataclasses import replace

from tests.e2e.hostile.case import Case

_MOST_CHANGES = 8


def mutated(cases: Iterable[Case], chance: random.Random) -> Iterator[Case]:
    """Yield the cases with other bytes in their bodies; their heads, which frame them, stay."""
    for case in cases:
        yield replace(
            case, requests={name: _changed(data, chance) for name, data in case.requests.items()}
        )


def _changed(request: bytes, chance: random.Random) -> bytes:
    head, blank, body = request.partition(b"\r\n\r\n")
    if not body:
        return request
    changed = bytearray(body)
    for _ in range(chance.randint(1, _MOST_CHANGES)):
        changed[chance.randrange(len(changed))] = chance.choice(
            (0, 0x7F, 0xFF, chance.randrange(256))
        )
    return head + blank + bytes(changed)
