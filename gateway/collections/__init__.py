"""Remembering faces: enrol, search, forget, group, move to another embedding space."""
