"""Measurements: each file is one command that prints a table and writes JSON."""
