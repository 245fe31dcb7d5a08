"""Keys and audit log of a tenant."""
