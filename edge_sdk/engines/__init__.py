"""Inference engines: a graph as bytes in, tensors in, tensors out; they know nothing of pictures.

``selector.open_engine`` opens one by name. Another distribution adds an engine by an entry point in
the group ``edge_sdk.engines``.
"""
