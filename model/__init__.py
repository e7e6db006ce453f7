"""The FMIT model, its training, and its baselines."""
