"""A burst: `locust -f benchmarks/locustfile.py,benchmarks/shapes/spike.py -u 64 -t 3m`.

An eighth of `-u`, in the middle third of `-t` all of them: what is refused then, and how soon it
is quiet again.
"""

from typing import Any

from locust import LoadTestShape

_QUIET = 8


class Spike(LoadTestShape):
    """Quiet, all at once, quiet."""

    use_common_options = True

    def tick(self) -> tuple[int, float] | None:
        """Give users and users started a second; None ends the run."""
        options: Any = self.runner and self.runner.environment.parsed_options
        part = self.get_run_time() / options.run_time
        if part > 1:
            return None
        users = options.num_users if 1 / 3 <= part < 2 / 3 else options.num_users // _QUIET
        return max(users, 1), max(options.num_users, 1)
