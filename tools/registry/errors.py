"""Why the version in service was not changed."""


class LifecycleError(Exception):
    """A change that cannot be made; its text says why, and what can be done."""
