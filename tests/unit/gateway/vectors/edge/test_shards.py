"""The choice of the shards to rebuild next."""

from typing import cast

import pytest

from gateway.vectors.edge.shard import EdgeShard
from gateway.vectors.edge.shards import Choice, Part, choose


def part(name: str, written: int, *, built: bool = True, forgotten_at: float | None = None) -> Part:
    return Part(name, built, cast("EdgeShard", None), written, forgotten_at)


def chosen(*sealed: Part, purged_last: bool = False) -> Choice | None:
    return choose(sealed, seal_points=100, forgotten_before=50.0, purged_last=purged_last)


def test_nothing_is_rebuilt_without_need() -> None:
    assert chosen() is None
    assert chosen(part("a", 400), part("b", 100), part("c", 100), part("d", 100)) is None


def test_unindexed_shards_are_indexed_alone_then_merged() -> None:
    waiting = [part(name, 100, built=False) for name in "abcd"]
    assert chosen(part("x", 400), *waiting[:3]) == Choice(("a",), purges=False)
    assert chosen(*waiting) == Choice(("a", "b", "c", "d"), purges=False)
    many = [part(f"{number}", 100, built=False) for number in range(40)]
    choice = chosen(*many)
    assert choice is not None
    assert choice.sources == tuple(f"{number}" for number in range(16))


def test_four_of_a_size_are_merged() -> None:
    small = [part(name, size) for name, size in zip("abcd", (100, 130, 10, 99), strict=True)]
    assert chosen(part("x", 400), *small) == Choice(("a", "b", "c", "d"), purges=False)
    assert chosen(part("x", 400), *small[:3]) is None


@pytest.mark.parametrize("size", [1100, 1600, 2000])
def test_large_shards_are_left_alone(size: int) -> None:
    assert chosen(*(part(name, size) for name in "abcdef")) is None


def test_no_merge_is_larger_than_the_largest() -> None:
    assert chosen(*(part(name, 600) for name in "abcd")) == Choice(("a", "b", "c"), purges=False)


def test_shards_with_deletions_are_due_oldest_first() -> None:
    young = part("young", 100, forgotten_at=51.0)
    old, older = part("old", 100, forgotten_at=40.0), part("older", 100, forgotten_at=30.0)
    assert chosen(young) is None
    assert chosen(young, old, older) == Choice(("older",), purges=True)


def test_purging_and_indexing_take_turns() -> None:
    due, waiting = part("due", 100, forgotten_at=1.0), part("waiting", 100, built=False)
    assert chosen(due, waiting) == Choice(("due",), purges=True)
    assert chosen(due, waiting, purged_last=True) == Choice(("waiting",), purges=False)
    assert chosen(due, purged_last=True) == Choice(("due",), purges=True)
