"""Conversion of each kind of network to a stage; one file per kind."""
