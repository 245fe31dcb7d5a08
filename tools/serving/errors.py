"""Errors of starting and stopping the stack."""


class ServingError(Exception):
    """Aurum cannot start or stop; its text is one line with the cause and what to do."""


class AlreadyRunningError(ServingError):
    """Another process serves the same `AURUM_HOME`; the text names its address."""
