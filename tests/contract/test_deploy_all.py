"""`make deploy-all` on a machine without an engine says what to install, and installs nothing."""

import os
import shutil
import subprocess
from pathlib import Path

from gateway.settings import CHECKOUT
from tools.commands.deploy import _NO_ENGINE


def test_without_an_engine_nothing_is_changed(tmp_path: Path) -> None:
    checkout, programs = tmp_path / "checkout", tmp_path / "bin"
    (checkout / "tools").mkdir(parents=True)
    programs.mkdir()
    shutil.copy(CHECKOUT / "Makefile", checkout)
    bootstrap = checkout / "tools" / "bootstrap.sh"
    bootstrap.write_text("#!/bin/sh\ntouch installed\n")
    bootstrap.chmod(0o755)
    make = shutil.which("make")
    assert make
    for program in ("sh", "touch"):
        (programs / program).symlink_to(shutil.which(program) or "")

    def deploy_all() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [make, "deploy-all"],
            env={"PATH": str(programs), "LC_ALL": "C"},
            cwd=checkout,
            capture_output=True,
            text=True,
            check=False,
        )

    refused = deploy_all()
    assert refused.returncode != 0
    assert refused.stderr.splitlines()[0] == f"error: {_NO_ENGINE}"
    assert sorted(os.listdir(checkout)) == ["Makefile", "tools"]
    # with one, it goes on
    (programs / "podman").symlink_to("/bin/true")
    deploy_all()
    assert (checkout / "installed").exists()
