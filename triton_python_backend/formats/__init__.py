"""Headers of encoded images: format, size, orientation, decoding cost; one file per format."""
