"""Workers as parts of a stack, and alone."""

import socket

from gateway.settings import Settings, load_settings
from tools.serving.home import Home
from tools.serving.run_plan import RunPlan
from tools.serving.run_settings import RunSettings
from tools.serving.worker_part import WorkerPart
from tools.serving.workers import worker_parts


def plan(tmp_path, **changes) -> RunPlan:
    settings = Settings(home=tmp_path, model_repository=tmp_path / "models", **changes)
    return RunPlan(RunSettings.of(settings), "all", None, with_redis=True)


def workers_of(made: RunPlan) -> list[WorkerPart]:
    return [part for part in made.parts() if isinstance(part, WorkerPart)]


def test_a_stack_has_as_many_workers_as_it_is_set_to(tmp_path):
    made = plan(tmp_path, workers=3)
    assert made.worker_names == ("worker-1", "worker-2", "worker-3")
    assert tuple(part.name for part in workers_of(made)) == made.worker_names
    assert workers_of(plan(tmp_path, workers=0)) == []


def test_triton_alone_has_no_workers(tmp_path):
    settings = RunSettings.of(Settings(home=tmp_path, model_repository=tmp_path))
    assert RunPlan(settings, "triton", None, with_redis=False).worker_names == ()


def test_workers_keep_their_names_and_have_those_of_no_other(tmp_path, monkeypatch):
    names = []
    for home in ("a", "b"):
        (tmp_path / home).mkdir()
        for part in workers_of(plan(tmp_path / home, workers=2)):
            variables = part.environment()
            name = variables["AURUM_WORKER_NAME"]
            assert name.startswith(f"{socket.gethostname()}-")
            assert part.environment()["AURUM_WORKER_NAME"] == name
            names.append(name)
    assert len(set(names)) == 4


def test_a_worker_reads_the_settings_that_it_is_given(tmp_path, monkeypatch):
    (part,) = workers_of(plan(tmp_path))
    for name, value in part.environment().items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert settings.home == tmp_path
    assert settings.redis_url is not None
    assert settings.redis_url.get_secret_value().startswith("unix://")
    assert settings.worker_name is not None
    assert part.environment()["MALLOC_ARENA_MAX"] == "2"


def test_workers_alone_are_named_by_their_processes(tmp_path):
    parts = worker_parts(Settings(home=tmp_path, model_repository=tmp_path), 2)
    assert len({part.name for part in parts}) == 2
    assert all("AURUM_WORKER_NAME" not in part.environment() for part in parts)
    assert all(part.redis_url is None for part in parts), "no Redis runs in this home"


def test_workers_alone_share_the_cache_of_a_stack_in_their_home(tmp_path):
    home = Home(tmp_path)
    home.run.mkdir(parents=True)
    (home.run / "redis.sock").touch()
    (part,) = worker_parts(Settings(home=tmp_path, model_repository=tmp_path), 1)
    assert part.redis_url == f"unix://{home.run / 'redis.sock'}"
    elsewhere = Settings(home=tmp_path, model_repository=tmp_path, redis_url="redis://other")
    (part,) = worker_parts(elsewhere, 1)
    assert part.redis_url is None


def test_a_single_worker_may_have_a_name(tmp_path):
    settings = Settings(home=tmp_path, model_repository=tmp_path, worker_name="left")
    (part,) = worker_parts(settings, 1)
    assert part.environment()["AURUM_WORKER_NAME"] == "left"
    assert {part.worker_name for part in worker_parts(settings, 2)} == {None}
