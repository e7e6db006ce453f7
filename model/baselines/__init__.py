"""Baselines with the words, packs, training and scores of FMIT."""
