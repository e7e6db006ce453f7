"""Rivals of FMIT on the same words, packs, trainer and scorer."""
