"""What the header of an encoded image says: format, size, orientation, cost; one file a format."""
