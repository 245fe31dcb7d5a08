"""HTTP handlers: parse, call, answer."""
