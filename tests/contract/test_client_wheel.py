"""The Python client installs and imports where the server is not, on every Python it names."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from gateway.settings import CHECKOUT

CLIENT = CHECKOUT / "clients" / "python"
PACKAGE = CLIENT / "src" / "aurum_client"
PROJECT = tomllib.loads((CLIENT / "pyproject.toml").read_text())["project"]
MODULES = sorted(PACKAGE.rglob("*.py"))


def run(*command: str | Path) -> str:
    done = subprocess.run(
        [str(each) for each in command], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # building leaves files beside the source
    shutil.copytree(CLIENT, folder / "source", ignore=shutil.ignore_patterns("*.egg-info"))
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation")
    run(*pip, "--wheel-dir", folder, folder / "source")
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_package_its_types_and_its_licence(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    expected = {str(path.relative_to(CLIENT / "src")) for path in MODULES}
    assert expected | {"aurum_client/py.typed"} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert all(name.startswith("aurum_client") for name in names)


def test_it_imports_without_the_server(wheel, tmp_path):
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", wheel)
    program = (
        "import sys, aurum_client, aurum_client.local\n"
        "assert 'gateway' not in sys.modules and 'numpy' not in sys.modules\n"
        "try: aurum_client.local.LocalEngine('.')\n"
        "except ImportError as error: print(error)\n"
        "print(aurum_client.__version__)"
    )
    said = run(python, "-I", "-c", program)
    assert "pip install 'aurum[gateway,models]'" in said
    assert said.splitlines()[-1] == "0.1.0"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_are_of_the_oldest_python_and_need_no_server(path):
    (minor,) = re.findall(r">=3\.(\d+)", PROJECT["requires-python"])
    tree = ast.parse(path.read_text(), feature_version=(3, int(minor)))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    known = {"aurum_client", "httpx", "__future__"} | sys.stdlib_module_names
    further = {"_ensemble.py": {"gateway", "triton_python_backend"}, "faces.py": {"numpy"}}
    assert imported - known <= further.get(path.name, set())


def test_the_sync_client_is_generated():
    run(sys.executable, CLIENT / "generate_sync.py", "--check")


def test_the_readme_lists_the_errors_and_runs_no_unknown_name():
    readme = (CLIENT / "README.md").read_text()
    errors = re.findall(r"^class (\w+Error)\b", (PACKAGE / "errors.py").read_text(), re.MULTILINE)
    assert {name for name in errors if f"`{name}`" not in readme} == set()
    for block in re.findall(r"```python\n(.*?)```", readme, re.DOTALL):
        compile(block, "README.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
