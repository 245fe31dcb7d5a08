"""Model cards: Markdown rendered from measured JSON."""
