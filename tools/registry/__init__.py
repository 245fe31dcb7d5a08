"""Which versions serve: journal, kept versions, going forward and back, and what is the case."""
