"""One file a kind of network: how it becomes a stage."""
