"""A version that is tried beside the one in service: whom it answers, how the two differ."""
