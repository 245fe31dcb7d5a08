"""The gateway is killed under a Python client, whose local engine answers until it is back."""

import os
import signal

from aurum_client import AurumClient, RetryPolicy
from aurum_client.local import LocalEngine

from tests.support import photos
from tests.support.serving import wait_until


def test_killed_gateway_is_answered_locally_until_it_is_back(changed):
    engine = LocalEngine(changed.repository)
    with AurumClient(
        changed.url, fallback=engine, check_seconds=0.2, retry=RetryPolicy(attempts=2)
    ) as client:
        served = client.score(photos.PORTRAIT)
        assert served.engine == "triton"
        os.kill(changed.part_pid("gateway"), signal.SIGKILL)
        # the supervisor needs a second at the least to start another one
        local = client.score(photos.PORTRAIT)
        assert local.engine == "fallback"
        assert local.models == served.models
        assert wait_until(
            lambda: client.score(photos.PORTRAIT).engine == "triton", timeout_seconds=60
        )
        assert not client.uses_fallback
