"""Faces of an image: score, detect, embed, verify."""
