"""`deploy/compose/secrets.sh` makes no empty secret, and says what it cannot do."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from gateway.settings import CHECKOUT

SCRIPT = CHECKOUT / "deploy" / "compose" / "secrets.sh"


def run(folder: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["/bin/sh", SCRIPT, folder],
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def subject_names(folder: Path) -> str:
    command = ["openssl", "x509", "-in", folder / "edge.pem", "-noout", "-ext", "subjectAltName"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("faces.example.com", "DNS:faces.example.com"),
        ("10.0.0.7", "IP Address:10.0.0.7"),
        ("fd00::7", "IP Address:FD00:0:0:0:0:0:0:7"),
    ],
)
def test_the_certificate_is_for_a_name_or_an_address(
    tmp_path: Path, name: str, written: str
) -> None:
    done = run(tmp_path / "secrets", SERVER_NAME=name)
    assert done.returncode == 0, done.stderr
    assert written in subject_names(tmp_path / "secrets")


def test_without_openssl_nothing_is_made(tmp_path: Path) -> None:
    bare = tmp_path / "bin"
    bare.mkdir()
    for program in ("mkdir", "chmod", "cat", "mv", "tr", "printf"):
        found = shutil.which(program)
        assert found
        (bare / program).symlink_to(found)
    done = run(tmp_path / "secrets", PATH=str(bare))
    assert (done.returncode, done.stderr) == (1, "error: openssl is needed, and is not installed\n")
    assert not (tmp_path / "secrets").exists()


def test_an_openssl_that_fails_leaves_no_empty_secret(tmp_path: Path) -> None:
    (tmp_path / "openssl").write_text("#!/bin/sh\necho 'no random numbers' >&2\nexit 1\n")
    (tmp_path / "openssl").chmod(0o755)
    folder = tmp_path / "secrets"
    failed = run(folder, PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert failed.returncode == 1
    assert "nothing was made for redis_password" in failed.stderr
    assert not (folder / "redis_password").exists()
    # it is made by the next run
    assert run(folder).returncode == 0
    assert (folder / "redis_password").stat().st_size == 48


def test_what_is_there_is_kept_and_opened_for_the_containers(tmp_path: Path) -> None:
    assert run(tmp_path).returncode == 0
    before = {file.name: file.read_text() for file in tmp_path.iterdir()}
    # as certbot leaves it
    (tmp_path / "edge.key").chmod(0o600)
    done = run(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == before
    assert (tmp_path / "edge.key").stat().st_mode & 0o777 == 0o644
    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_an_empty_secret_and_half_a_certificate_are_named(tmp_path: Path) -> None:
    assert run(tmp_path).returncode == 0
    (tmp_path / "edge.key").unlink()
    half = run(tmp_path)
    assert half.returncode == 1
    assert "needs both edge.pem and edge.key, and has no edge.key" in half.stderr
    (tmp_path / "postgres_password").write_text("")
    (tmp_path / "AURUM_DATABASE_URL").unlink()
    empty = run(tmp_path)
    assert empty.returncode == 1
    assert f"{tmp_path}/postgres_password is empty: remove it" in empty.stderr
    # no address is made of it
    assert not (tmp_path / "AURUM_DATABASE_URL").exists()
