"""Each extra of pyproject.toml brings what its part of the project imports, and nothing else."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from gateway.settings import CHECKOUT
from tools.__main__ import COMMANDS
from tools.commands import models

PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
PACKAGES = ("gateway", "tools", "triton_python_backend")
ENTRIES = [*COMMANDS.values(), *models.COMMANDS.values()]
LOADED_BY_NAME = {"aiosqlite", "async-timeout", "asyncpg", "greenlet", "swagger-ui-py"}
"""SQLAlchemy's drivers and its asyncio, what redis needs on older Pythons, the API's page."""
NOT_FROM_AN_INDEX = {"triton_python_backend_utils"}
"""Triton puts it on the path of its Python stages."""


CLIENT = CHECKOUT / "clients/python/src"


def name_of(module: Path) -> str:
    root = CLIENT if module.is_relative_to(CLIENT) else CHECKOUT
    parts = module.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    name_of(path): path for package in PACKAGES for path in (CHECKOUT / package).rglob("*.py")
} | {name_of(path): path for path in CLIENT.rglob("*.py")}


def below(*packages: str) -> set[str]:
    """Names of all modules of packages."""
    return {name for name in MODULES if name.startswith(tuple(f"{each}." for each in packages))}


STARTS = {
    extra: {entry.module for entry in ENTRIES if entry.extra == extra} - {models.__name__}
    for extra in {entry.extra for entry in ENTRIES}
}
# the fallback engine's process needs OpenCV and ONNX Runtime
_LOCAL_ENGINE = "gateway.inference.local"
STARTS["gateway"] = below("gateway")
# the supervisor starts the gateway and Triton in processes of their own
STARTS["serve"] |= below("gateway", "tools.serving", "triton_python_backend", "tools.golden")
STARTS["models"] |= {_LOCAL_ENGINE} | below(
    "tools.importing", "tools.registry", "tools.packs", "tools.quantization"
)
STARTS["train"] = below("tools.training")
# loaded by name, when it is asked for
STARTS["parquet"] = {"tools.batch.parquet"}


def imported(module: str) -> Iterator[str]:
    """Names that a module imports, at its top or in a function; types alone do not count."""
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                below_it = f"{node.module}.{alias.name}"
                yield below_it if below_it in MODULES else node.module


def distributions(starts: Iterable[str]) -> set[str]:
    """Distributions that these modules and all that they import need."""
    seen: set[str] = set()
    found: set[str] = set()
    waiting = list(starts)
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        # the packages above run first
        waiting += [name for name in MODULES if module.startswith(f"{name}.")]
        for name in imported(module):
            top = name.split(".")[0]
            if name in MODULES:
                waiting.append(name)
            elif top not in sys.stdlib_module_names | NOT_FROM_AN_INDEX | set(PACKAGES):
                found.add(distribution_of(top))
    return found


@cache
def by_module() -> dict[str, list[str]]:
    return dict(packages_distributions())


def distribution_of(top: str) -> str:
    # PyTorch may be missing: its module has the name of its distribution
    return by_module().get(top, [top])[0].lower().replace("_", "-")


def required(requirements: Iterable[str]) -> set[str]:
    """Names of required distributions, extras of this project followed."""
    found: set[str] = set()
    for each in requirements:
        name, _, extras = re.split(r"[=<>~]", each)[0].partition("[")
        if name == PROJECT["name"]:
            for extra in extras.rstrip("]").split(","):
                found |= required(EXTRAS[extra])
        else:
            found.add(name)
    return found


BASE = required(PROJECT["dependencies"])


@pytest.mark.parametrize("extra", sorted(STARTS))
def test_an_extra_brings_all_that_its_part_imports(extra):
    assert distributions(STARTS[extra]) - BASE - required(EXTRAS[extra]) == set()


@pytest.mark.parametrize("extra", sorted(STARTS))
def test_an_extra_brings_nothing_else(extra):
    used = distributions(STARTS[extra]) | LOADED_BY_NAME
    assert required(EXTRAS[extra]) - used == set()


def test_the_base_is_what_the_command_line_and_all_extras_use():
    shared = set.intersection(*(distributions(STARTS[extra]) for extra in ("gateway", "models")))
    assert shared | distributions(["tools.__main__"]) >= BASE


def test_every_extra_is_looked_at():
    # a client's programs are not in this repository; deptry looks at the tests' imports
    assert set(EXTRAS) - set(STARTS) == {"client", "dev"}
