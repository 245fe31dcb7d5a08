"""What the processes of a stack hold: memory, threads, open files."""

from dataclasses import dataclass
from typing import Self

import psutil

from tests.support.serving import Served

_PARTS = ("gateway", "triton")
_FILES = 8
"""Connections and pipes that come and go."""
_THREADS = 4
"""Threads that pools start when they first need them."""
_MEMORY_BYTES = 96 << 20
"""What allocators keep of the largest inputs that were open at once."""


@dataclass(frozen=True, slots=True)
class Resources:
    """Sums over a part and its children, by part: resident bytes, threads, open files."""

    memory: dict[str, int]
    threads: dict[str, int]
    files: dict[str, int]

    @classmethod
    def of(cls, stack: Served) -> Self:
        """Measure them now."""
        trees = {part: _tree(stack.part_pid(part)) for part in _PARTS}
        return cls(
            {part: sum(each.memory_info().rss for each in tree) for part, tree in trees.items()},
            {part: sum(each.num_threads() for each in tree) for part, tree in trees.items()},
            {part: sum(each.num_fds() for each in tree) for part, tree in trees.items()},
        )

    def growth(self, later: Self) -> list[str]:
        """Say what has grown beyond what is ordinary."""
        rows = (
            ("memory", self.memory, later.memory, _MEMORY_BYTES),
            ("threads", self.threads, later.threads, _THREADS),
            ("files", self.files, later.files, _FILES),
        )
        return [
            f"{what} of {part}: {before[part]} -> {after[part]}"
            for what, before, after, most in rows
            for part in _PARTS
            if after[part] > before[part] + most
        ]


def _tree(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]
