"""Errors of deployments; each text is one line that says what is wrong and what to do."""


class DeployError(Exception):
    """A deployment cannot go on."""


class EngineError(DeployError):
    """The container engine refused a call; the text has the call and the engine's last line."""


class UnderWayError(DeployError):
    """Another process deploys now."""
