"""Boxes for noun phrases and general words: one file a grounder."""
