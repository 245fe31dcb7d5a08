"""Where faces come from: a protocol and what speaks it."""
