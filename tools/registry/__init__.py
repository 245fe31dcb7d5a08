"""Versions of each stage: where they are, which serves, journal, forward and back."""
