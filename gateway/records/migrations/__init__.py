"""Alembic's folder: `env.py` runs inside `Database.open`, `versions/` holds one file per step."""
