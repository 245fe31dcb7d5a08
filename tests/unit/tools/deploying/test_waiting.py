"""Containers are watched until they are well, and those without a health check a while longer."""

from pathlib import Path
from typing import Any

import pytest

from tools.deploying.engine import Container, Project
from tools.deploying.errors import DeployError
from tools.deploying.waiting import wait_until_well

PROJECT = Project(Path("/p"), ())


class Watched:
    """An engine with one container, which it may start again and again."""

    def __init__(self, health: str, restarts: list[int]) -> None:
        self.container = Container("p-worker-1", "worker", "i", "running", health, 0, ())
        self.counts = restarts

    def containers(self, _: Project) -> list[Container]:
        return [self.container]

    def restarts(self, names: list[str]) -> dict[str, int]:
        count = self.counts.pop(0) if len(self.counts) > 1 else self.counts[0]
        return dict.fromkeys(names, count)


def wait(engine: Any, settle_seconds: float) -> list[Container]:
    return wait_until_well(
        engine,
        PROJECT,
        ["worker"],
        limit_seconds=1,
        settle_seconds=settle_seconds,
        report=lambda _: None,
    )


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.deploying.waiting._PAUSE_SECONDS", 0.01)


def test_a_container_without_a_check_that_ends_again_and_again_is_not_well() -> None:
    with pytest.raises(DeployError, match="p-worker-1 ends again and again"):
        wait(Watched("", [1, 1, 2]), settle_seconds=1)


def test_what_it_did_before_this_deployment_does_not_matter() -> None:
    engine = Watched("", [7])
    assert wait(engine, settle_seconds=0.05) == [engine.container]


def test_a_container_that_reports_its_health_is_well_at_once() -> None:
    engine = Watched("healthy", [1, 2, 3])
    assert wait(engine, settle_seconds=60) == [engine.container]
