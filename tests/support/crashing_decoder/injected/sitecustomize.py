"""Loaded by every Python that has this folder on its path; changes only those that decode."""

import ctypes
import sys
from typing import Any

if "triton_python_backend.decoders.process" in sys.orig_argv:
    from triton_python_backend import decoding

    _decode_with = decoding.decode_with

    def crash_or_decode(header: Any, data: bytes, *, reduction: int | None = None) -> Any:
        """Read address 0 for a marked picture, and never end for one with the other mark."""
        if b"this picture crashes the decoder" in data:
            ctypes.string_at(0)
        while b"this picture hangs the decoder" in data:
            pass
        return _decode_with(header, data, reduction=reduction)

    decoding.decode_with = crash_or_decode
