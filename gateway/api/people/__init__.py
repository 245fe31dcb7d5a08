"""A person across collections: find, export, erase; lists of people not to be enrolled."""
