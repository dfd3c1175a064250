"""AdaptCLIP (arXiv 2505.09926): three small adapters on a frozen CLIP, and their fusion."""
