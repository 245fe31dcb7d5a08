"""PyTorch may be missing on a developer's machine: these tests skip there. In CI it may not."""

import os

if os.environ.get("CI"):
    import torch  # noqa: F401
