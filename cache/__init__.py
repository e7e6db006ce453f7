"""Content-addressed store, packs, tables and weights; never torch."""
