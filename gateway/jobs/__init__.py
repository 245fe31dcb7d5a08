"""Jobs: many images in one request, worked on after it was answered."""
