"""Reads images out of archives that come from anywhere."""
