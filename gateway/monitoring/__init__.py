"""What is looked after in the background, and what is seen of it."""
