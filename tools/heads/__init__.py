"""Scoring heads: a regression on embeddings, and its ONNX graph."""
