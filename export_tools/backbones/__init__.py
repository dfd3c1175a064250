"""Backbones without a text tower."""
