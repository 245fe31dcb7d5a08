"""The `aurum` command and the libraries behind it."""
