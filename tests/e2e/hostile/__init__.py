"""Hostile inputs, made by code, against the whole stack: each with the answer that it must get."""
