"""Goals of a Locust run: where one is missed, Locust ends with status 3 and says which."""

import logging
from argparse import Namespace

from locust import events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

log = logging.getLogger(__name__)

STATUS = 3
"""Of a run that missed a goal; 1 is Locust's own for failed requests."""
_PERCENTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


@events.init_command_line_parser.add_listener
def add_goals(parser: LocustArgumentParser) -> None:
    """Add an option for each goal; none is set unless asked for."""
    for name in _PERCENTILES:
        parser.add_argument(f"--max-{name}", type=float, metavar="MS", help=f"goal: {name} in ms")
    parser.add_argument("--max-errors", type=float, metavar="PERCENT", help="goal: failed requests")
    parser.add_argument("--min-rate", type=float, metavar="N", help="goal: requests a second")


def missed(environment: Environment) -> list[str]:
    """List the goals that the run has missed, in words."""
    options, total = _options(environment), environment.stats.total
    found = []
    for name, share in _PERCENTILES.items():
        most = getattr(options, f"max_{name}")
        took = total.get_response_time_percentile(share)
        if most is not None and took > most:
            found.append(f"{name} is {took:.0f} ms, not {most:g}")
    errors = total.fail_ratio * 100
    if options.max_errors is not None and errors > options.max_errors:
        found.append(f"{errors:.2f} % of the requests failed, not {options.max_errors:g}")
    if options.min_rate is not None and total.total_rps < options.min_rate:
        found.append(f"{total.total_rps:.1f} requests a second, not {options.min_rate:g}")
    return found


@events.quitting.add_listener
def check_goals(environment: Environment, **_: object) -> None:
    """Turn missed goals into the exit status."""
    for goal in (found := missed(environment)):
        log.error("goal missed: %s", goal)
    if found:
        environment.process_exit_code = STATUS
    elif _options(environment).max_errors is not None:
        # so many may fail
        environment.process_exit_code = 0


def _options(environment: Environment) -> Namespace:
    if environment.parsed_options is None:
        raise RuntimeError("Locust has not parsed its command line")
    options: Namespace = environment.parsed_options
    return options
