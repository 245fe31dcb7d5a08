"""The workers of a run in parallel do all tests, also after one of them ended in the middle."""

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.support.scheduling import ModuleScheduling

TESTS = [f"tests/{module}.py::{name}" for module in "abcdef" for name in ("one", "two")]


class Worker:
    """Runs what it is sent, as xdist's does: a test once it knows the next one, or the end."""

    def __init__(self, name: str) -> None:
        self.gateway = type("Gateway", (), {"id": name})
        self.sent: list[int] = []
        self.shutting_down = False

    def send_runtest_some(self, indices: list[int]) -> None:
        assert not self.shutting_down
        self.sent += indices

    def shutdown(self) -> None:
        self.shutting_down = True

    def run_one(self, scheduling: LoadScopeScheduling) -> str | None:
        """Run the next test if it may."""
        if len(self.sent) < (1 if self.shutting_down else 2):
            return None
        index = self.sent.pop(0)
        scheduling.mark_test_complete(self, index)
        return TESTS[index]


@pytest.fixture
def scheduling(pytestconfig, monkeypatch) -> LoadScopeScheduling:
    monkeypatch.setattr(pytestconfig.option, "tx", ["2*popen"], raising=False)
    monkeypatch.setattr(pytestconfig.option, "loadscopereorder", False, raising=False)
    return ModuleScheduling(pytestconfig, Producer("test"), lambda module: module)


def added(scheduling: LoadScopeScheduling, name: str) -> Worker:
    worker = Worker(name)
    scheduling.add_node(worker)
    scheduling.add_node_collection(worker, TESTS)
    return worker


def all_of(scheduling: LoadScopeScheduling, *workers: Worker) -> list[str]:
    """What the workers run, in turn, until none of them may go on."""
    done = []
    while ran := [name for worker in workers if (name := worker.run_one(scheduling))]:
        done += ran
    return done


def test_each_test_is_run_once_and_modules_stay_together(scheduling):
    first, second = added(scheduling, "first"), added(scheduling, "second")
    scheduling.schedule()
    by_worker = [[], []]
    while any(ran := [worker.run_one(scheduling) for worker in (first, second)]):
        for names, name in zip(by_worker, ran, strict=True):
            names += [name] if name else []
    assert sorted([*by_worker[0], *by_worker[1]]) == TESTS
    modules = [{name.partition("::")[0] for name in names} for names in by_worker]
    assert not modules[0] & modules[1]
    assert scheduling.tests_finished


@pytest.mark.parametrize("before", range(6))
def test_the_rest_of_a_dead_workers_tests_is_run_by_others(scheduling, before):
    first, second = added(scheduling, "first"), added(scheduling, "second")
    scheduling.schedule()
    done = [first.run_one(scheduling) for _ in range(before)]
    crashed = scheduling.remove_node(first)
    assert crashed not in done
    # the new one is there, and collects its tests only now
    third = Worker("third")
    scheduling.add_node(third)
    done += all_of(scheduling, second)
    scheduling.add_node_collection(third, TESTS)
    scheduling.schedule()
    done += all_of(scheduling, second, third)
    assert sorted([*filter(None, done), crashed]) == TESTS
    assert scheduling.tests_finished


def test_the_last_worker_may_die_too(scheduling):
    first, second = added(scheduling, "first"), added(scheduling, "second")
    scheduling.schedule()
    done = all_of(scheduling, second)
    crashed = scheduling.remove_node(first)
    done += all_of(scheduling, second)
    assert scheduling.remove_node(second) is None
    third = added(scheduling, "third")
    scheduling.schedule()
    done += all_of(scheduling, third)
    assert sorted([*done, crashed]) == TESTS
