"""Configurations for other machines than the one at hand."""
