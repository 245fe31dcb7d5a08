"""Fixtures that several folders of tests share, and the order of a run in parallel."""

import gc
import os
import sys
from collections.abc import Generator, Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import pytest
from xdist.remote import Producer

from tests.support.scheduling import ModuleScheduling
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
_SHARED_STACKS = {
    "stack": (
        "tests/contract/test_kserve.py",
        "tests/e2e/hostile/test_hostile.py",
        "tests/e2e/test_batch_commands.py",
        "tests/e2e/test_client_examples.py",
        "tests/e2e/test_jobs.py",
        "tests/e2e/test_locust.py",
        "tests/e2e/test_people_rights.py",
        "tests/e2e/test_photos_to_answers.py",
        "tests/e2e/test_readme.py",
        "tests/e2e/test_remembering.py",
        "tests/e2e/test_turned_and_large.py",
        "tests/integration/test_cache_on_triton.py",
        "tests/integration/test_pipeline.py",
        "tests/integration/test_slow_pictures.py",
        "tests/integration/test_watched_portrait.py",
    ),
    "changed_stack": (
        "tests/e2e/test_canary.py",
        "tests/e2e/test_client_fallback.py",
        "tests/e2e/test_deployed_models.py",
        "tests/e2e/test_killed_triton.py",
        "tests/e2e/test_lighter_networks.py",
    ),
    "helm": (
        "tests/contract/test_helm_chart.py",
        "tests/contract/test_helm_entrance.py",
        "tests/contract/test_helm_network.py",
        "tests/contract/test_helm_stores.py",
        "tests/contract/test_helm_values.py",
    ),
    "changed_cached_stack": ("tests/e2e/test_swapping.py", "tests/e2e/test_swapping_guide.py"),
}
"""Fixtures for a whole session, and the modules that use them: one worker runs all of these."""
_LONGEST = (
    "tests/contract/test_schemathesis.py",
    "tests/e2e/test_images.py",
    "tests/e2e/test_failures.py",
    "tests/e2e/test_many_hosts.py",
)
_ORDER = ("e2e", "integration", "golden", "contract", "unit")
"""Long modules first: at the end of a run in parallel, no worker waits long for the other."""


_NOT_MEASURED = (
    "tests/contract/test_job_processes.py",
    "tests/contract/test_schemathesis.py",
    "tests/e2e/test_adding_a_stage.py",
    "tests/e2e/test_calibrated_stack.py",
    "tests/e2e/test_client_examples.py",
    "tests/e2e/test_collections_swapped.py",
    "tests/e2e/test_decoder_crash.py",
    "tests/e2e/test_failures.py",
    "tests/e2e/test_locust.py",
    "tests/e2e/test_many_hosts.py",
    "tests/integration/test_gateway_killed.py",
    "tests/integration/test_peers.py",
    "tests/integration/test_rolling_restart.py",
)
"""Modules whose processes coverage.py does not measure: other people's programs, or our own doing
what is measured in other tests. A measured gateway takes half as long again to start."""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Look for no garbage among the modules of all tests: what they make stays until the end."""
    gc.disable()
    try:
        _compile_share(session.config)
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def _compile_share(config: pytest.Config) -> None:
    """Load a worker's share of the modules first, which leaves them compiled for the others."""
    if sys.dont_write_bytecode or not hasattr(config, "workerinput"):
        return
    worker, workers = config.workerinput["workerid"], config.workerinput["workercount"]
    modules = sorted(_TESTS.rglob("test_*.py"))
    for path in modules[int(worker.removeprefix("gw")) % workers :: workers]:
        # what is wrong with it is said when it is collected
        with suppress(Exception, pytest.skip.Exception):
            import_module(".".join(path.relative_to(_TESTS.parent).with_suffix("").parts))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let coverage.py measure the processes that a test starts, or not."""
    with pytest.MonkeyPatch.context() as patch:
        if item.nodeid.partition("::")[0] in _NOT_MEASURED:
            patch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
        return (yield)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark each test with the name of its folder; in parallel, begin with the long ones."""
    for item in items:
        item.add_marker(getattr(pytest.mark, _folder_of(item)))
        module = item.nodeid.partition("::")[0]
        for stack in _SHARED_STACKS.keys() & set(getattr(item, "fixturenames", ())):
            if module not in _SHARED_STACKS[stack]:
                raise pytest.UsageError(f"{module} uses {stack}: list it in tests/conftest.py")
    if hasattr(config, "workerinput"):
        items.sort(key=_place_of)


def _place_of(item: pytest.Item) -> tuple[int, int]:
    module = item.nodeid.partition("::")[0]
    place = _LONGEST.index(module) if module in _LONGEST else len(_LONGEST)
    return place, _ORDER.index(_folder_of(item))


def _folder_of(item: pytest.Item) -> str:
    return item.nodeid.split("/", 2)[1]


def _group_of(module: str) -> str:
    return next((stack for stack, users in _SHARED_STACKS.items() if module in users), module)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ModuleScheduling:
    """Give the workers of `make test` their work, in the order of the collected tests."""
    config.option.loadscopereorder = False
    return ModuleScheduling(config, log, _group_of)


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
        workers=1,
    )
    with serving(settings) as served:
        served.wait_for("Aurum is ready")
        yield served
    assert what_is_left(settings) == []


@pytest.fixture(scope="session")
def triton(stack: Served) -> Served:
    """The stack's Triton, for tests that ask it without its gateway."""
    return stack
