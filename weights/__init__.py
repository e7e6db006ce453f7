"""Weights that ship with the project, each with its card."""
