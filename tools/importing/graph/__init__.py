"""Graph surgery that the kinds of networks share."""
