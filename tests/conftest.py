"""Fixtures that several folders of tests share, and the order of a run in parallel."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from xdist.scheduler import LoadGroupScheduling

from tests.support.serving import (
    Served,
    add_real_weights,
    add_shipped_weights,
    copy_repository,
    make_settings,
    serving,
    what_is_left,
)
from tests.support.weights import why_no_weights

if "PYTEST_XDIST_WORKER" in os.environ:
    # a core is what each worker has; read by NumPy, scikit-learn and PyTorch when they are loaded
    os.environ.setdefault("OMP_NUM_THREADS", "1")

_TESTS = Path(__file__).parent
_SHARED_STACKS = {"stack", "changed_stack", "changed_cached_stack"}
"""Fixtures for a whole session; a worker that uses one runs all tests that do."""
_ORDER = ("e2e", "integration", "golden", "contract", "unit")
"""Long modules first: at the end of a run in parallel, no worker waits long for the other."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark each test with the name of its folder, and the tests of a shared stack as a group."""
    for item in items:
        item.add_marker(getattr(pytest.mark, _folder_of(item)))
        for stack in _SHARED_STACKS.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.xdist_group(stack))
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: _ORDER.index(_folder_of(item)))


def _folder_of(item: pytest.Item) -> str:
    return item.path.relative_to(_TESTS).parts[0]


class _ByModule(LoadGroupScheduling):  # type: ignore[misc]
    """A worker takes a whole module, or all modules whose tests share a stack."""

    def _split_scope(self, nodeid: str) -> str:
        group = super()._split_scope(nodeid)
        return nodeid.split("::", 1)[0] if group == nodeid else group


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> _ByModule:
    """Give the workers of `make test` their work, in the order of the collected tests."""
    config.option.loadscopereorder = False
    return _ByModule(config, log)


@pytest.fixture(scope="session")
def real_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a repository of its own with real weights; tests that change it copy it first."""
    folder = tmp_path_factory.mktemp("repository")
    repository = copy_repository(folder / "model_repository")
    if not add_shipped_weights(repository):
        reason = why_no_weights()
        if reason:
            pytest.skip(reason)
        add_real_weights(repository, folder)
    return repository


@pytest.fixture(scope="session")
def stack(real_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Run Triton and the gateway with real weights on free ports, for the whole session.

    Nothing but the tests asks it, so that they can count what it did.
    """
    # a busy machine shall make tests slow, not wrong
    settings = make_settings(
        tmp_path_factory.mktemp("stack"),
        real_repository,
        request_timeout_seconds=60.0,
        cache="off",
        max_wait_seconds=60.0,
        portrait_interval_seconds=0.0,
    )
    with serving(settings) as served:
        served.wait_for("Aurum is ready")
        yield served
    assert what_is_left(settings) == []


@pytest.fixture(scope="session")
def triton(stack: Served) -> Served:
    """The stack's Triton, for tests that ask it without its gateway."""
    return stack
