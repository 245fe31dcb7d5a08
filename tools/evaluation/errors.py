"""Why photos could not be measured."""


class CalibrationError(Exception):
    """Labelled photos that cannot be used; the text names the file and line."""
