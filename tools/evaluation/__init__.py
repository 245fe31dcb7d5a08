"""Error rates from labelled pairs of photos."""
