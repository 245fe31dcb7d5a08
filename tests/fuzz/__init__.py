"""Fuzzing of everything that reads bytes of a caller: `python -m tests.fuzz sniff --seconds 60`.

Each target states what must hold for any input. Coverage guides libFuzzer (by atheris) to inputs
that reach new code; those are kept in `corpus/`, and the test suite runs all of them again.
"""
