"""Containers read as other users: which files of this machine they cannot read."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tools.deploying.configuration import Configuration
from tools.deploying.readable import unreadable

OURS = f"{os.geteuid()}:{os.getegid()}"


def problems(
    service: Mapping[str, Any], users: Mapping[str, str], secret: Path | None = None
) -> list[str]:
    content: dict[str, Any] = {"name": "p", "services": {"a": service}}
    if secret is not None:
        content["secrets"] = {"s": {"file": str(secret)}}
    return list(unreadable(Configuration(content), users))


@pytest.mark.parametrize(
    ("mode", "user", "is_read"),
    [
        (0o644, "10001:10001", True),
        (0o600, "10001:10001", False),
        # what a careful operator or certbot leaves
        (0o640, "nginx", False),
        (0o400, OURS, True),
        (0o440, f"10001:{os.getegid()}", True),
        (0o040, f"10001:{os.getegid()}", True),
        (0o004, OURS, False),
    ],
)
def test_a_secret_is_read_by_its_owner_its_group_or_all(
    tmp_path: Path, mode: int, user: str, is_read: bool
) -> None:
    path = tmp_path / "secret"
    path.write_text("x")
    path.chmod(mode)
    uses = {"secrets": [{"source": "s"}], "cap_drop": ["ALL"]}
    found = problems(uses, {"a": user}, path)
    assert (found == []) is is_read
    # pytest's folders are closed already
    assert is_read or found == [
        f"secret s: {path} cannot be read by a, which is another user: chmod 0644 {path}"
    ]
    # the service's own user counts more than the image's
    assert (problems({**uses, "user": user}, {"a": ""}, path) == []) is is_read
    # not known before the image is there
    assert problems(uses, {}, path) == []


def test_root_reads_all_unless_it_may_do_little(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("x")
    path.chmod(0o600)
    uses = {"secrets": [{"source": "s"}]}
    assert problems(uses, {"a": ""}, path) == []
    little = problems({**uses, "cap_drop": ["ALL"]}, {"a": "root"}, path)
    assert bool(little) is (os.geteuid() != 0)


def test_files_of_a_mounted_folder_are_looked_at(tmp_path: Path) -> None:
    folder = tmp_path / "rules"
    folder.mkdir(mode=0o755)
    (folder / "open.yml").touch(0o644)
    mounted = {"volumes": [{"type": "bind", "source": str(folder), "read_only": True}]}
    assert problems(mounted, {"a": "nobody"}) == []
    (folder / "closed.yml").touch(0o600)
    [problem] = problems(mounted, {"a": "nobody"})
    assert problem == (
        f"{folder}/closed.yml cannot be read by a, which is another user: chmod -R a+rX {folder}"
    )
    # as a checkout lies there that was made with umask 077
    folder.chmod(0o700)
    assert problems(mounted, {"a": "65534"})[0].startswith(f"{folder} cannot be read")
