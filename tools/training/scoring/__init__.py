"""Training of `face_scoring` lite: a regression from an embedding to ratings of faces."""
