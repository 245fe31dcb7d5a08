"""Which worker of a run in parallel runs which tests."""

from collections.abc import Callable

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

_FEWEST = 3
"""Tests that a worker has before it, as long as there are some: it waits with the last one until it
knows which test comes next, or that none does."""


class ModuleScheduling(LoadScopeScheduling):
    """A worker takes a whole module, or all modules that share something long-lived.

    Unlike xdist's own, it survives the end of a worker in the middle of a run: that one puts back
    what the worker had done already, and gives it to a new worker, which waits for a test of it for
    ever.
    """

    def __init__(
        self, config: pytest.Config, log: Producer, group_of: Callable[[str], str]
    ) -> None:
        """group_of: the name of the modules that belong together, by the path of one of them."""
        super().__init__(config, log)
        self._group_of = group_of

    def remove_node(self, node: WorkerController) -> str | None:
        """Leave the rest of a worker's tests to others; returns the test during which it died."""
        units = self.assigned_work.pop(node)
        left: list[str] = [
            test for unit in units.values() for test, done in unit.items() if not done
        ]
        if not left:
            return None
        for scope, unit in reversed(units.items()):
            rest = {test: False for test, done in unit.items() if not done and test != left[0]}
            if rest:
                self.workqueue[scope] = rest
                self.workqueue.move_to_end(scope, last=False)
        for other in self.assigned_work:
            self._reschedule(other)
        return left[0]

    def _split_scope(self, nodeid: str) -> str:
        return self._group_of(nodeid.partition("::")[0])

    def _reschedule(self, node: WorkerController) -> None:
        # one that took the place of another may still look for its tests
        if node not in self.registered_collections:
            return
        while not node.shutting_down and self._pending_of(self.assigned_work[node]) < _FEWEST:
            super()._reschedule(node)
