"""One module per stage: files in, files out, around the pure functions."""
