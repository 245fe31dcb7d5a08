"""Works on jobs: claims their images, has each answered, and writes the result."""
