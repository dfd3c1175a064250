"""The host half: exports backbones as verified bundles."""
