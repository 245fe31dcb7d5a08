"""The production stack on hosts of its own loses some of them: nobody who retries notices.

`python -m benchmarks.cluster` loses each of them, and cuts and spoils links.
"""

import json
import os
import shutil
import subprocess
import sys

import pytest

from gateway.settings import CHECKOUT
from tests.support.nginx import find_nginx
from tests.support.postgres import find_binaries
from tests.support.prerequisites import is_missing
from tests.support.redis import find_server


@pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")
def test_hosts_are_lost_and_callers_do_not_notice(tmp_path):
    find_nginx()
    find_server()
    if find_binaries() is None:
        is_missing("PostgreSQL is not installed")
    for program in ("ip", "nsenter", "unshare"):
        if shutil.which(program) is None:
            is_missing(f"{program} is not installed")
    may = subprocess.run(["unshare", "--net", "--mount", "--pid", "--fork", "true"], check=False)
    if may.returncode:
        is_missing("this machine has no network namespaces")
    results = tmp_path / "results.json"

    command = [sys.executable, "-m", "benchmarks.cluster", "--short", "--no-write"]
    done = subprocess.run(
        [*command, "--results", str(results)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )

    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    found = json.loads(results.read_text())
    kept = found["kept"]
    assert found["rows"]
    for row in found["rows"]:
        assert row["retrying"]["asked"]
        assert not row["retrying"]["problems"], row
    assert kept["faces"]
    assert kept["images"] == kept["done_images"] > 0
    bad = ("lost_faces", "doubled_faces", "missed_searches", "doubled_images")
    assert {name: kept[name] for name in bad} == dict.fromkeys(bad, 0), done.stdout[-4000:]
