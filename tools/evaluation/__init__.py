"""What is measured on photos: error rates of labelled pairs, references, when to look again."""
