"""The FMIT model, its trainer, and its rivals."""
