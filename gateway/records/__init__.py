"""What must be remembered beside the vectors: SQLite by default, PostgreSQL by URL."""
