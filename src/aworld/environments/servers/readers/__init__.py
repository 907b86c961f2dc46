"""One module per kind of file: what is written in it, piece by piece, and in brackets what is there and is no text."""
