"""Packs of weights: what `models.json` lists, fetched, checked and imported."""
