"""What goes wrong with a backup, in a sentence for the operator."""


class BackupError(Exception):
    """A backup cannot be made, read or restored; its text says why, without any secret."""
