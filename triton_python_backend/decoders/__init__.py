"""Decoding in processes of their own, which a picture may crash."""
