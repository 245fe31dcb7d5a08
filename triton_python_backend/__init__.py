"""The library of the ensemble's Python stages: NumPy and OpenCV only, no Triton, no I/O."""
