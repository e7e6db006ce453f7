"""Content-addressed store, packs, tables and weights. Never imports torch."""
