"""Training of the adapters; the backbone stays frozen."""
