"""Collections, their faces and subjects."""
