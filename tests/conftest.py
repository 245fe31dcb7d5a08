"""Fixtures that several folders of tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

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

_TESTS = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with the name of its folder."""
    for item in items:
        folder = item.path.relative_to(_TESTS).parts[0]
        item.add_marker(getattr(pytest.mark, folder))


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
def triton(real_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Run Triton with real weights on free ports, for the whole session."""
    settings = make_settings(tmp_path_factory.mktemp("triton"), real_repository)
    with serving(settings, "triton") as served:
        served.wait_for("Triton is ready")
        yield served
    assert what_is_left(settings) == []


@pytest.fixture(scope="session")
def stack(real_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Run Triton and the gateway with real weights on free ports, for the whole session."""
    # a busy machine shall make tests slow, not wrong
    settings = make_settings(
        tmp_path_factory.mktemp("stack"), real_repository, request_timeout_seconds=60.0, cache="off"
    )
    with serving(settings) as served:
        served.wait_for("Aurum is ready")
        yield served
    assert what_is_left(settings) == []
