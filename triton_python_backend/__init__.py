"""What the Python stages of the ensemble call: NumPy and OpenCV only, no Triton, no I/O."""
