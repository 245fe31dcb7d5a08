"""Hours of it: `locust -f benchmarks/locustfile.py,benchmarks/shapes/soak.py -u 8 -t 8h`.

Between a half of `-u` and all of them, up and down twice an hour: does memory grow, does latency?
"""

import math
from typing import Any

from locust import LoadTestShape

_PERIOD_SECONDS = 1800


class Soak(LoadTestShape):
    """A slow wave."""

    use_common_options = True

    def tick(self) -> tuple[int, float] | None:
        """Give users and users started a second; None ends the run."""
        options: Any = self.runner and self.runner.environment.parsed_options
        now = self.get_run_time()
        if now > options.run_time:
            return None
        share = 0.75 - 0.25 * math.cos(2 * math.pi * now / _PERIOD_SECONDS)
        return max(round(options.num_users * share), 1), options.spawn_rate
