"""Backups: everything that must survive in one encrypted archive, and back from it."""
