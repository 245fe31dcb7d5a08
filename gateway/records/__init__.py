"""Records of collections and faces, beside the vectors: SQLite by default, or PostgreSQL."""
