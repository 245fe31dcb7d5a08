"""Answers kept for images seen before: in this process, then in Redis."""
