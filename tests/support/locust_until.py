"""Given to Locust beside its users: ends the run once each name of `AURUM_TEST_UNTIL` was asked.

The names stand one a line. A slow machine may take as long as it needs, up to `-t`.
"""

import os

import gevent
from locust import events
from locust.env import Environment

_WRITING_SECONDS = 3
_missing = set(os.environ["AURUM_TEST_UNTIL"].splitlines())


@events.init.add_listener
def watch(environment: Environment, **_: object) -> None:
    """Look at each request."""

    @environment.events.request.add_listener
    def note(name: str, **_: object) -> None:
        if not _missing:
            return
        _missing.discard(name)
        if not _missing and environment.runner is not None:
            # in a greenlet of its own: it waits for the users, this one included; later, because
            # the files of statistics are written once a second
            gevent.spawn_later(_WRITING_SECONDS, environment.runner.quit)
