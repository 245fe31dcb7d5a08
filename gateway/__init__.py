"""The HTTP service of Aurum: validates images, asks Triton, answers JSON."""
