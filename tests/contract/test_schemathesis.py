"""Requests that schemathesis makes from the document, valid and not, against the gateway.

All its checks are on. `schemathesis.toml` says the two things that are special here.
"""

import asyncio
import json
import os
import re
import sys
from pathlib import Path

from tests.support.collection_client import Embedder
from tests.support.fake_inference import FakeInference
from tests.support.gateway_server import serving
from tests.support.http_triton import Script, running

ROOT = Path(__file__).parents[2]
SEED = 1
"""Always the same requests: a failure is of the change at hand."""

KSERVE_ANSWER = {
    **{"name": "m", "version": "1", "extensions": [], "versions": ["1"], "platform": ""},
    **{"inputs": [], "outputs": [], "model_name": "m", "model_version": "1"},
}
"""What Triton answers to all that comes below `/v2`: enough for each schema."""


async def test_the_gateway_does_what_its_document_says(tmp_path):
    script = Script(answer=json.dumps(KSERVE_ANSWER).encode())
    async with (
        running(script) as address,
        serving(FakeInference(), Embedder(), home=tmp_path, triton_http_url=address) as client,
    ):
        url = client._base_url / "api/openapi.json"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli"),
            *("--config-file", str(ROOT / "schemathesis.toml")),
            *("run", str(url), "--checks", "all", "--max-examples", "4", "--seed", str(SEED)),
            *("--no-shrink", "--continue-on-failure", "--suppress-health-check", "all"),
            # in two threads CPython 3.11 now and then fails in `ast.parse` (python/cpython#106905)
            *("--workers", "1"),
            # it leaves a cache where it runs
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
