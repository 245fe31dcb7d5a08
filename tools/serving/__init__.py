"""The parts of `aurum serve`: installation, processes, supervision and the state of a home."""
