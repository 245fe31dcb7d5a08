"""A load that grows: `locust -f benchmarks/locustfile.py,benchmarks/shapes/ramp.py -u 64 -t 5m`.

From one user to `-u` in steps, over `-t`: where latency begins to climb lies the capacity.
"""

from typing import Any

from locust import LoadTestShape

_STEPS = 10


class Ramp(LoadTestShape):
    """Ten steps of equal length and height."""

    use_common_options = True

    def tick(self) -> tuple[int, float] | None:
        """Give users and users started a second; None ends the run."""
        options: Any = self.runner and self.runner.environment.parsed_options
        if self.get_run_time() > options.run_time:
            return None
        step = int(self.get_run_time() / options.run_time * _STEPS) + 1
        return max(options.num_users * step // _STEPS, 1), options.spawn_rate
