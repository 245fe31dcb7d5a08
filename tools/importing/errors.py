"""Why weights were not imported."""


class WeightsError(Exception):
    """A file that cannot be made a stage; its text says what was expected and what was found."""
