"""What a test needs of the machine: without it a test skips, and fails where `CI` is set."""

import os
from typing import NoReturn

import pytest


def is_missing(message: str) -> NoReturn:
    """Skip the test, or fail it in CI, which installs everything.

    Photos and weights of `../shared` need not be there: for these, call `pytest.skip`.
    """
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)
