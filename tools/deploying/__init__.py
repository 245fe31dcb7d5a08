"""Deploying with containers: check, build, start, prove with a photo; back to the release before."""
