"""Graph surgery shared by several kinds of networks."""
