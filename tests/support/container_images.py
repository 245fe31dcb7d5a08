"""Images of containers, built and started without an engine: buildah in a changed root.

The base is a Debian of mmdebstrap. Containers have the network of this machine and no limits of
memory. They start as the Compose files and the chart start them: read-only root, no capabilities,
no way to new privileges.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

from gateway.settings import CHECKOUT
from tests.support.prerequisites import is_missing

PREFIX = "localhost/aurum-"
_MEMORY_BYTES = 12 * 2**30
_PROGRAMS = ("buildah", "mmdebstrap")
SHARED_MEMORY_BYTES = 64 * 2**20
"""What Docker gives a container that asks for nothing."""
_CONFINED = f"""\
mount -t tmpfs tmpfs /tmp
mount -t tmpfs -o size={SHARED_MEMORY_BYTES} tmpfs /dev/shm
mount -o remount,bind,ro /
user=$1
shift
exec setpriv --reuid="${{user%:*}}" --regid="${{user#*:}}" --clear-groups \\
    --inh-caps=-all --bounding-set=-all --no-new-privs -- "$@"
"""
_MIRROR = "deb http://deb.debian.org/debian bookworm main"
_SLIM = """\
force-unsafe-io
path-exclude /usr/share/doc/*
path-include /usr/share/doc/*/copyright
path-exclude /usr/share/locale/*
path-exclude /usr/share/man/*
"""
"""Options of dpkg as in Debian's own slim image: no manuals, no translations."""
_CONFIGURED = re.compile(r"^(?:global|:env:)\.(cert|index-url)='(.*)'$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Images:
    """A store of images in a folder."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which buildah works on this store."""
        clean = {name: text for name, text in os.environ.items() if not name.startswith("AURUM_")}
        return clean | {
            "CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf"),
            "BUILDAH_ISOLATION": "chroot",
        }

    def buildah(self, *arguments: str) -> str:
        """Run buildah; return its output."""
        done = subprocess.run(
            ["buildah", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"buildah {' '.join(arguments)}: {done.stderr[-2000:]}"
        return done.stdout.strip()

    def configuration(self, name: str) -> dict[str, Any]:
        """What an engine reads from an image: user, command, labels, health check."""
        found = json.loads(self.buildah("inspect", "--type", "image", f"{PREFIX}{name}:test"))
        configuration: dict[str, Any] = found["Docker"]["config"]
        return configuration

    @contextmanager
    def container(self, name: str) -> Iterator[tuple[str, Path]]:
        """A container of an image, and the folder of its files."""
        container = self.buildah("from", f"{PREFIX}{name}:test")
        try:
            yield container, Path(self.buildah("mount", container))
        finally:
            self.buildah("rm", container)

    @contextmanager
    def running(
        self,
        name: str,
        container: str,
        log: IO[bytes],
        variables: Mapping[str, object],
        *options: str,
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Start the image's own command as its own user, confined; end it with SIGTERM."""
        image = self.configuration(name)
        confined = ["sh", "-euc", _CONFINED, "sh", image["User"]]
        command = [*(image["Entrypoint"] or []), *image["Cmd"]]
        given = [f"--env={variable}={value}" for variable, value in variables.items()]
        process = subprocess.Popen(
            [
                *("buildah", "run", "--user=0:0", "--cap-add=CAP_SYS_ADMIN"),
                *options,
                *given,
                *(container, "--", *confined, *command),
            ],
            env=self.environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            _end(process)


def _end(buildah: subprocess.Popen[bytes]) -> None:
    """End a container as an engine does, by its first process; nothing of it may be left.

    buildah hands no signal on, and would leave what that process has started.
    """
    if buildah.poll() is not None:
        return
    inside = psutil.Process(buildah.pid).children(recursive=True)
    first = [each for each in inside if each.name() == "tini"] or inside
    for each in first:
        with suppress(psutil.NoSuchProcess):
            each.terminate()
    try:
        buildah.wait(60)
        left = psutil.wait_procs(inside, timeout=10)[1]
        assert not left, left
    finally:
        for each in inside:
            with suppress(psutil.NoSuchProcess):
                each.kill()


@contextmanager
def in_memory(folder: Path) -> Iterator[Path]:
    """Keep a folder in memory where there is enough of it.

    Gigabytes that are written to the disk would let the databases of other tests wait for seconds.
    """
    enough = psutil.virtual_memory().available > _MEMORY_BYTES
    mount = ["mount", "-t", "tmpfs", "-o", "size=8g", "tmpfs", str(folder)]
    mounted = enough and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield folder
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def build(folder: Path) -> Images:
    """Build `gateway` and `cpu` from this checkout, in a store below a folder."""
    for program in _PROGRAMS:
        if shutil.which(program) is None:
            is_missing(f"{program} is not installed (Debian: {program})")
    if os.geteuid() != 0:
        is_missing("images are built in a changed root, which needs root")
    images = Images(folder)
    (folder / "storage.conf").write_text(
        f'[storage]\ndriver = "overlay"\nrunroot = "{folder}/run"\ngraphroot = "{folder}/graph"\n'
    )
    _make_base(images)
    options = " ".join(["--layers=false", *_sources()])
    done = subprocess.run(
        [str(CHECKOUT / "deploy/docker/build.sh"), "gateway", "cpu"],
        env=images.environment
        | {
            **{"ENGINE": "buildah", "BASE": f"{PREFIX}base", "PREFIX": PREFIX, "TAG": "test"},
            "OPTIONS": options,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return images


def _make_base(images: Images) -> None:
    container = images.buildah("from", "scratch")
    root = images.buildah("mount", container)
    done = subprocess.run(
        [
            *("mmdebstrap", "--variant=minbase", '--aptopt=Acquire::Languages "none"'),
            *("bookworm", root, _MIRROR),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
    # only now, because mmdebstrap itself takes twice the time with them
    Path(root, "etc/dpkg/dpkg.cfg.d/slim").write_text(_SLIM)
    images.buildah("config", "--cmd", "/bin/sh", container)
    images.buildah("commit", "--rm", container, f"{PREFIX}base")


def _sources() -> Iterator[str]:
    """Options of a build that let pip and uv in it find packages as pip does here."""
    pip = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(pip, capture_output=True, text=True, check=True).stdout
    found = dict(_CONFIGURED.findall(listed))
    if "cert" in found:
        inside = "/run/certificates.pem"
        yield f"--volume={found['cert']}:{inside}:ro"
        yield from (f"--build-arg={name}={inside}" for name in ("PIP_CERT", "SSL_CERT_FILE"))
    if "index-url" in found:
        names = ("PIP_INDEX_URL", "UV_DEFAULT_INDEX")
        yield from (f"--build-arg={name}={found['index-url']}" for name in names)
