"""Objects of the lattice: which regions a post has, and their features."""
