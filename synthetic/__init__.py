"""Synthetic scenes and posts, and training of the small models that ship with FMIT."""
