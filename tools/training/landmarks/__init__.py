"""The detector's second network, which corrects each face's landmarks: a part of its file."""
