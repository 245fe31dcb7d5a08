"""Errors that the commands print as one line; `tools.serving.errors` has those of the stack."""


class WeightsError(Exception):
    """A file that cannot become a stage; the text says what was expected and what was found."""


class LifecycleError(Exception):
    """A change of the version in service that was refused; the text says why and what to do."""


class PackError(Exception):
    """A pack that cannot be fetched; the text names the source and what is wrong with it."""


class CalibrationError(Exception):
    """Labelled photos that cannot be used; the text names the file and the line."""


class BatchError(Exception):
    """A bulk command that cannot start or go on; the text says why and what to do."""

    exit_status = 1


class ServiceError(BatchError):
    """The service is not reachable, or it has been too busy for too long."""

    exit_status = 3
