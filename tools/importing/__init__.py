"""Makes weights ready: graph surgery, checks and trial runs, then a new version folder."""
