"""Jobs: many images, worked on in the background."""
