"""Deploying with containers: check, build, start, prove with a photo; back where a step fails."""
