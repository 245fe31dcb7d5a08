"""Vector stores behind one protocol: Qdrant Edge beside the gateway, or a Qdrant server."""
