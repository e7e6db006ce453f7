"""Readers: a dataset's own files become posts."""
