"""The list of what an image holds."""

import json
import subprocess
from importlib.metadata import distribution, version

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tools import sbom

DPKG = "installed\tlibstdc++6\t12.2.0-14+deb12u1\tamd64\nconfig-files\told\t1:2~3\tall\n"


@pytest.fixture
def listed(tmp_path, monkeypatch):
    def run(command, **_):
        assert command[0].endswith("/dpkg-query")
        return subprocess.CompletedProcess(command, 0, stdout=DPKG)

    monkeypatch.setattr(sbom.subprocess, "run", run)
    # few, because the schema is slow; one of them twice, as in two folders of Python's path
    few = [distribution(name) for name in ("numpy", "aiohttp", "aiohttp")]
    monkeypatch.setattr(sbom, "distributions", lambda: few)
    monkeypatch.setattr(sbom, "_os_release", lambda: {"ID": "debian", "VERSION_ID": "12"})
    (tmp_path / "0.7.0-cp311" / "nvidia_pytriton-0.7.0.dist-info").mkdir(parents=True)
    monkeypatch.setenv("AURUM_TRITON_FOLDER", str(tmp_path))
    file = tmp_path / "sbom.json"
    assert sbom.main(["aurum-cpu", "1.2.3", str(file)]) == 0
    return file.read_text()


def test_it_follows_the_schema(listed):
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(listed) is None


def test_it_holds_packages_of_debian_of_python_and_triton(listed):
    document = json.loads(listed)
    components = {each["name"]: each for each in document["components"]}
    assert document["metadata"]["component"]["name"] == "aurum-cpu"
    assert components["numpy"]["version"] == version("numpy")
    assert components["nvidia-pytriton"]["version"] == "0.7.0"
    assert components["aiohttp"]["licenses"]
    # packages that were removed are not listed
    assert "old" not in components
    assert components["libstdc++6"]["purl"] == (
        "pkg:deb/debian/libstdc%2B%2B6@12.2.0-14%2Bdeb12u1?arch=amd64&distro=debian-12"
    )
