"""A version on trial beside the active one: which requests it answers, how the two differ."""
