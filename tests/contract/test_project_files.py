"""The project files state what is true."""

import re
import tomllib
from collections.abc import Iterable
from itertools import chain

import pytest
import yaml

from gateway.settings import CHECKOUT

PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def named(requirements: Iterable[str]) -> set[str]:
    """Return the names of required packages, without this project's own extras."""
    names = {re.split(r"[\[=<>~]", each)[0] for each in requirements}
    return names - {PROJECT["name"]}


DEV = named(EXTRAS["dev"])


def test_every_package_that_is_installed_is_credited():
    credited = set(re.split(r"[|,\s]+", (CHECKOUT / "THIRD_PARTY.md").read_text()))
    required = named(chain(PROJECT["dependencies"], *EXTRAS.values()))
    assert required - credited == set()


@pytest.mark.parametrize("name", PROJECT["license-files"])
def test_licence_files_exist(name):
    assert (CHECKOUT / name).read_text().strip()


def test_the_licence_text_is_the_declared_one():
    assert PROJECT["license"] == "Apache-2.0"
    assert "Version 2.0, January 2004" in (CHECKOUT / "LICENSE").read_text()


def test_hooks_run_the_tools_of_this_project():
    config = yaml.safe_load((CHECKOUT / ".pre-commit-config.yaml").read_text())
    hooks = [hook for repo in config["repos"] for hook in repo["hooks"]]
    lint = (CHECKOUT / "Makefile").read_text().partition("\nlint:")[2].partition("\n\n")[0]
    for hook in hooks:
        tools = [each for each in (*DEV, "shellcheck") if hook["id"].startswith(each)]
        assert tools, hook["id"]
        # import-linter's program has another name
        assert tools[0] in lint or "lint-imports" in hook["entry"]
    assert {repo["repo"] for repo in config["repos"]} == {"local"}


def test_everything_required_is_pinned_with_hashes():
    pins = {
        name: version
        for each in chain(PROJECT["dependencies"], *EXTRAS.values())
        for name, version in re.findall(r"^([a-z0-9-]+)(?:\[.*\])?==(.*)$", each)
    }
    # its build depends on the machine: bootstrap.sh takes it from where it is
    del pins["torch"]
    text = (CHECKOUT / "requirements/dev.txt").read_text()
    listed = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", text, re.MULTILINE))
    assert pins.items() <= listed.items(), "run `make constraints`"


@pytest.mark.parametrize("name", ["dev", "run", "golden", "helm", "build", "uv", "triton"])
def test_every_pinned_version_has_hashes_and_no_index(name):
    lines = (CHECKOUT / f"requirements/{name}.txt").read_text().splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        entry = re.fullmatch(r"[A-Za-z0-9._-]+==[^ ]+ \\", line)
        digest = re.fullmatch(r" {4}--hash=sha256:[0-9a-f]{64}( \\)?", line)
        assert entry or digest or line.startswith("#"), line
        if line.endswith("\\"):
            assert following.startswith("    --hash=sha256:")


@pytest.mark.parametrize("package", ["gateway", "tools", "triton_python_backend"])
def test_packages_are_marked_as_typed(package):
    assert (CHECKOUT / package / "py.typed").is_file()


def test_unit_tests_mirror_the_source():
    units = CHECKOUT / "tests/unit"
    folders = {path.parent.relative_to(units) for path in units.rglob("test_*.py")}
    assert folders
    assert [str(each) for each in sorted(folders) if not (CHECKOUT / each).is_dir()] == []
