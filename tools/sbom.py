"""Lists what an image holds, as CycloneDX 1.6: `python tools/sbom.py NAME VERSION FILE`.

Debian's packages, the packages of the Python that runs this, and the wheel's tritonserver if
`AURUM_TRITON_FOLDER` names it. Needs no other package and Python 3.10, as NVIDIA's image does.
"""

import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from importlib.metadata import Distribution, PackageMetadata, distributions
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

_FIELDS: Final = "${db:Status-Status}\t${Package}\t${Version}\t${Architecture}\n"
_TRITON: Final = re.compile(r"nvidia_pytriton-(?P<version>.+)\.dist-info")

Component = dict[str, Any]


def main(arguments: Sequence[str]) -> int:
    """Write the list; return the exit status."""
    name, version, file = arguments
    folder = os.environ.get("AURUM_TRITON_FOLDER")
    components = [*_debian_packages(), *map(_python_package, distributions())]
    if folder:
        components += _triton(Path(folder))
    Path(file).write_text(json.dumps(_document(name, version, components), indent=1) + "\n")
    return 0


def _document(name: str, version: str, components: list[Component]) -> dict[str, Any]:
    # each once, also where two folders of Python's path hold it
    by_reference = {str(each["bom-ref"]): each for each in components}
    # datetime.UTC is newer than Python 3.10
    now = datetime.now(timezone.utc)  # noqa: UP017
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid4()}",
        "version": 1,
        "metadata": {
            "timestamp": now.isoformat(timespec="seconds"),
            "component": {"type": "container", "name": name, "version": version},
        },
        "components": [by_reference[each] for each in sorted(by_reference)],
    }


def _component(name: str, version: str, purl: str, **more: object) -> Component:
    base = {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
    return base | more


def _debian_packages() -> Iterator[Component]:
    listed = subprocess.run(
        ["/usr/bin/dpkg-query", "--show", f"--showformat={_FIELDS}"],
        capture_output=True,
        text=True,
        check=True,
    )
    system = _os_release()
    origin = f"{system['ID']}-{system['VERSION_ID']}"
    for line in listed.stdout.splitlines():
        status, name, version, architecture = line.split("\t")
        if status == "installed":
            purl = (
                f"pkg:deb/{system['ID']}/{quote(name, safe='')}@{quote(version, safe='')}"
                f"?arch={architecture}&distro={origin}"
            )
            yield _component(name, version, purl)


def _os_release() -> dict[str, str]:
    lines = Path("/etc/os-release").read_text().splitlines()
    pairs = (line.partition("=") for line in lines if "=" in line)
    return {name: text.strip('"') for name, _, text in pairs}


def _python_package(found: Distribution) -> Component:
    name = re.sub("[-_.]+", "-", found.metadata["Name"]).lower()
    licence = _licence(found.metadata)
    more = {"licenses": [{"license": {"name": licence}}]} if licence else {}
    return _component(name, found.version, f"pkg:pypi/{name}@{quote(found.version)}", **more)


def _licence(metadata: PackageMetadata) -> str:
    """Return what a package says in one line; empty if it says nothing, or a whole text."""
    classified = metadata.get_all("Classifier") or []
    texts = [
        *(metadata.get_all("License-Expression") or []),
        *(metadata.get_all("License") or []),
        *(each.rpartition(" :: ")[2] for each in classified if each.startswith("License :: ")),
    ]
    return next((text for text in texts if text and len(text) < 100 and "\n" not in text), "")


def _triton(folder: Path) -> Iterator[Component]:
    for path in sorted(folder.glob("*/*.dist-info")):
        match = _TRITON.fullmatch(path.name)
        if match:
            version = match["version"]
            yield _component(
                "nvidia-pytriton",
                version,
                f"pkg:pypi/nvidia-pytriton@{quote(version)}",
                type="application",
                description="tritonserver and its Python backend, and no more of the wheel",
            )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
