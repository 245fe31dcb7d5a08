"""How much a caller may ask for: requests and megapixels per minute, requests at a time."""
