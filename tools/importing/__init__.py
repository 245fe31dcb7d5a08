"""Import of weights: graph surgery, checks and a trial run, then a new version folder."""
