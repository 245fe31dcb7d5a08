"""Errors of deployments; each text is one line that says what is wrong and what to do."""


class DeployError(Exception):
    """A deployment cannot go on."""

    exit_status = 1


class EngineError(DeployError):
    """The container engine refused a call; the text has the call and the engine's last line."""


class UnderWayError(DeployError):
    """Another process deploys now."""


class StuckError(DeployError):
    """A deployment failed, and going back failed, too: a person has to look."""

    exit_status = 2
