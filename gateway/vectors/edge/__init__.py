"""Vectors in Qdrant Edge: the engine process, its galleries and shards, and the client."""
