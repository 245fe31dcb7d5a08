"""Which faults are tried together."""

from benchmarks.failures import faults
from benchmarks.failures.matrix import pairs


def test_two_components_have_the_same_trouble():
    found = pairs([faults.TRITON, faults.REDIS, faults.WORKER])
    names = [" + ".join(each.name for each in pair) for pair in found]
    assert "triton killed + redis killed" in names
    assert "redis slow + worker slow" in names
    assert all(a.kind == b.kind and a.part != b.part for a, b in found)
    # five kinds with the two servers, three kinds with the worker and each of them
    assert len(found) == len(set(names)) == 5 + 3 + 3
