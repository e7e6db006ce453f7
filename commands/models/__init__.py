"""`fmit models`: model files that the settings name, found, fetched, converted."""
