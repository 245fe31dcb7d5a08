"""Collections of faces: enrol, search, delete, cluster, move to another embedding space."""
