"""What versions answer to known photos, kept beside their weights: the norm of drift."""
