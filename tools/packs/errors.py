"""Why a pack was not fetched."""


class PackError(Exception):
    """A pack that cannot be had; its text names the source and what is wrong with it."""
