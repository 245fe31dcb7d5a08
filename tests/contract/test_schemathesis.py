"""A gateway that asks for keys passes schemathesis: requests generated from the document.

All checks are on. `schemathesis.toml` contains the two exceptions.
"""

import asyncio
import json
import os
import re
import sys
from pathlib import Path

from gateway.security.roles import Role
from tests.support.access import guarded, managing, new_key
from tests.support.http_triton import Script, running

ROOT = Path(__file__).parents[2]
SEED = 1
"""Fixed, so that a failure comes from the change under test."""

KSERVE_ANSWER = {
    **{"name": "m", "version": "1", "extensions": [], "versions": ["1"], "platform": ""},
    **{"inputs": [], "outputs": [], "model_name": "m", "model_version": "1"},
}
"""Triton's answer to every request below `/v2`; it satisfies each schema."""


async def test_the_gateway_behaves_as_documented(tmp_path):
    script = Script(answer=json.dumps(KSERVE_ANSWER).encode())
    async with managing(tmp_path) as keys:
        key = await new_key(keys, Role.ADMIN)
    async with (
        running(script) as address,
        guarded(tmp_path, triton_http_url=address) as client,
    ):
        url = client._base_url / "api/openapi.json"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli"),
            *("--config-file", str(ROOT / "schemathesis.toml")),
            *("run", str(url), "--checks", "all", "--max-examples", "4", "--seed", str(SEED)),
            *("--header", f"Authorization: Bearer {key}"),
            *("--no-shrink", "--continue-on-failure", "--suppress-health-check", "all"),
            # with two threads CPython 3.11 sometimes fails in `ast.parse` (python/cpython#106905)
            *("--workers", "1"),
            # schemathesis leaves a cache in its working folder
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
    text = output.decode()
    assert process.returncode == 0, text
    operations = re.search(r"Tested: (\d+)", text)
    cases = re.search(r"(\d+) generated, (\d+) passed", text)
    assert operations is not None, text
    assert cases is not None, text
    assert int(operations[1]) >= 25
    assert cases[1] == cases[2]
    assert int(cases[1]) >= 1000
