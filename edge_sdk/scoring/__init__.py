"""Stage 4: features against references. One file a scorer."""
