"""One reader per kind of file. It gives the text piece by piece and names pictures and the like in brackets."""
